"""Whatever is done to a store, and in which order, it lists and reads as the one in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_rpc.run_names import FIELDS
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunOptions, RunParent, RunRequest, RunState
from lab_server.store import RunQuery, Store, blocks, event_log
from lab_server.where import AllOf, AnyOf, Compare, Condition, Kind, Name, Not
from lab_server.where.condition import Operator
from tests.contracts.stores import Make, a_run, grow, ids, named
from tests.memory_store import MemoryStore

TEXTS = st.sampled_from(
    [
        "",
        "a",
        "\0",
        "\uf8ff",
        "\uf8ff0",
        "\\u0000",
        "A",
        "b",
        "ä",
        "%",
        "_",
        'a"b',
        "a\\b",
        "🦊",
        "a a",
        "long" * 99,
    ]
)


TAGS = TEXTS.filter(lambda text: "\0" not in text)  # no tag has one; SQLite's JSON ends there


NUMBERS = st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 1e-300, 2.0, 1e300, math.inf, math.nan])


FINITE = st.sampled_from([-1.5, 0.0, 2.0, 1e300])


VALUES = NUMBERS | TEXTS | st.booleans() | st.integers(-1, 3) | st.none() | st.just(2**60)


KEYS = st.sampled_from(["lr", "acc", "state", "a.b", 'quo"te', "ü", "$", "long" * 99])


KEYS_AND_TEXTS = KEYS | TEXTS.filter(bool)


METRICS = st.dictionaries(KEYS_AND_TEXTS, NUMBERS, max_size=3)


EXTREMES = st.dictionaries(KEYS_AND_TEXTS, st.tuples(FINITE, FINITE), max_size=3)


RUNS = st.lists(
    st.builds(
        Run,
        id=st.just(""),
        request=st.builds(
            RunRequest,
            experiment=st.just("mnist"),
            name=TEXTS,
            notes=TEXTS,
            tags=st.sets(TAGS, max_size=3).map(tuple),
            options=st.builds(RunOptions, priority=st.integers(-1, 3), device=TEXTS),
            parent=st.none() | st.builds(RunParent, TEXTS, st.just(1)),
            overrides=st.dictionaries(KEYS, VALUES, max_size=1),
        ),
        owner=TEXTS,
        state=st.sampled_from(RunState),
        reason=TEXTS,
        metrics=METRICS,
        extremes=EXTREMES,
        configs=st.dictionaries(KEYS_AND_TEXTS, VALUES | st.lists(VALUES, max_size=2), max_size=3),
        step=st.sampled_from([-1, 0, 1, 2**62]),
        checkpoint_step=st.none() | st.integers(0, 3),
        create_time_ns=st.integers(0, 3),
        start_time_ns=st.integers(0, 2 * 10**9),
        end_time_ns=st.sampled_from([0, 3 * 10**9]),
    ),
    max_size=7,
)


NAMES = (
    st.sampled_from(list(FIELDS)).map(named)
    | st.builds(Name, st.sampled_from([Kind.CONFIG, Kind.VALUE]), KEYS)
    | st.builds(Name, st.just(Kind.METRIC), KEYS, st.sampled_from(["last", "min", "max"]))
)


OPERANDS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: TEXTS,
    Kind.TAGS: TEXTS,
    Kind.STATE: st.sampled_from([state.value for state in RunState]),
    Kind.NUMBER: st.integers(-1, 3),
    Kind.TIME: st.integers(0, 3),
    Kind.DURATION: st.floats(0, 12),
    Kind.METRIC: NUMBERS,
    Kind.CONFIG: VALUES,
    Kind.VALUE: VALUES,
}


@st.composite
def comparisons(draw: st.DrawFn) -> Compare:
    name = draw(NAMES)
    operand = draw(OPERANDS[name.kind] | st.none())
    signs: list[Operator] = ["="]
    is_number = type(operand) in (int, float) and operand == operand
    if is_number:
        signs += ["<", "<=", ">", ">="]
    if isinstance(operand, str) and name.kind is not Kind.STATE:
        signs += ["~"]
    return Compare(name, draw(st.sampled_from(signs)), operand)


CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    comparisons(),
    lambda inner: (
        inner.map(Not)
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: AllOf(tuple(some)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: AnyOf(tuple(some)))
    ),
    max_leaves=4,
)


QUERIES = st.builds(
    RunQuery,
    states=st.frozensets(st.sampled_from(RunState), max_size=2),
    tags=st.frozensets(TAGS, max_size=1),
    name_contains=TEXTS,
    owner=st.none() | TEXTS,
    order_by=NAMES.filter(lambda name: name.kind is not Kind.TAGS),
    where=st.none() | CONDITIONS,
    now_ns=st.integers(0, 10**10),
    is_descending=st.booleans(),
)


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.one_of(
            st.none(),  # the run is deleted
            st.fixed_dictionaries({"state": st.sampled_from(RunState)}),
            st.fixed_dictionaries({"metrics": METRICS}),
            st.fixed_dictionaries(
                {"state": st.sampled_from(RunState), "metrics": METRICS, "extremes": EXTREMES}
            ),
        ),
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(runs=RUNS, changes=CHANGES, queries=st.lists(QUERIES, min_size=4, max_size=16))
def test_a_store_lists_as_the_one_in_memory(
    make_store: Make,
    runs: list[Run],
    changes: list[tuple[int, dict[str, Any] | None]],
    queries: list[RunQuery],
) -> None:
    async def lists(store: Store) -> list[list[str]]:
        there = {i: dataclasses.replace(run, id=f"r{i}") for i, run in enumerate(runs)}
        await asyncio.gather(*(store.create(run, None) for run in there.values()))
        for index, change in changes:
            if index not in there:
                continue
            if change is None:
                await store.delete(there.pop(index).id)
            else:
                there[index] = dataclasses.replace(there[index], **change)
                await store.commit(there[index])
        try:
            return [await ids(store, query) for query in queries]
        finally:
            await store.close()

    assert asyncio.run(lists(make_store())) == asyncio.run(lists(MemoryStore()))


KINDS = ("log", "state", "metrics", "")


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("commit"),
            st.integers(0, 2),
            st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 40)), max_size=12),
        ),
        st.tuples(st.just("compact"), st.integers(0, 2), st.integers(0, 40)),
        st.tuples(st.just("delete"), st.integers(0, 2), st.just(0)),
    ),
    max_size=14,
)


READS = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(1, 400), st.frozensets(st.sampled_from(KINDS), max_size=2)
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(actions=ACTIONS, reads=READS, span=st.integers(1, 30), block_bytes=st.integers(1, 400))
def test_a_store_reads_as_the_one_in_memory_whatever_was_compacted(
    make_store: Make,
    actions: list[tuple[str, int, Any]],
    reads: list[tuple[int, int, frozenset[str]]],
    span: int,
    block_bytes: int,
) -> None:
    async def found(store: Store) -> list[object]:
        runs = [await store.create(a_run(f"r{index}"), None) for index in range(3)]
        for what, index, argument in actions:
            run = runs[index]
            match what:
                case "commit":
                    new = [
                        EncodedEvent(kind, events.encode_log(1, 1, ["x" * size])[0].payload)
                        for kind, size in argument
                    ]
                    runs[index], _ = await grow(store, run, new)
                case "compact":
                    await store.compact(run.id, argument)
                case "delete":
                    await store.delete(run.id)
                    await store.purge(run.id)
                    runs[index] = await store.create(a_run(run.id), None)
        results: list[object] = [await store.last_position()]
        for after, max_bytes, kinds in reads:
            results.append(await store.events_across(after, max_bytes, kinds))
            results += [await store.events(run.id, after, max_bytes, kinds) for run in runs]
        await store.close()
        return results

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_log, "_MIN_NEW_BLOCK", 6)
        patch.setattr(blocks, "_MIN_EVENTS_BY_COLUMNS", 2)
        patch.setattr(blocks, "MAX_SPAN", span)
        patch.setattr(blocks, "MAX_BLOCK_BYTES", block_bytes)
        assert asyncio.run(found(make_store())) == asyncio.run(found(MemoryStore()))
