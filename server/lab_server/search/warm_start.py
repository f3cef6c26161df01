"""What a search takes over from earlier searches and runs: configs with their values, once, when it is created."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab_core.configs import PlainValue
from lab_server.errors import NotFound
from lab_server.model.domain import as_in, contains
from lab_server.model.run import Run, RunState
from lab_server.model.search import SearchSpec, TrialState
from lab_server.model.search_log import Params, Taken
from lab_server.search.fold import Search
from lab_server.search.objective import measure, read_curve
from lab_server.search.window import best_and_latest
from lab_server.store import Store


@dataclass(frozen=True, slots=True)
class _Earlier:
    """A run that was trained to its end.

    Attributes:
        params: of a trial, what was searched and what was the same for all.
        value: what its search was told, if that looked for the same objective.
    """

    run_id: str
    search_id: str = ""
    params: Params | None = None
    value: float | None = None


class _LeftOutError(Exception):
    """A run that says nothing about the new search, with the reason."""


async def take_over(
    spec: SearchSpec, sources: Sequence[Search | Run], store: Store
) -> tuple[tuple[Taken, ...], list[str]]:
    """Return what a new search takes over, and sentences about what it does not.

    Args:
        spec: of the new search.
        sources: of the same experiment; of a long search the best and the latest trials count.
        store: has the runs' logs.
    """
    taken: dict[str, Taken] = {}
    notes: list[str] = []
    for source in sources:
        earlier, num_unfinished = _earlier(spec, source)
        left_out = Counter({"not trained to the end": num_unfinished})
        other_fixed = Counter[str]()
        for one in earlier:
            try:
                found, configs = await _take(spec, one, store)
            except _LeftOutError as error:
                left_out[str(error)] += 1
                continue
            taken[one.run_id] = found
            other_fixed.update(_other_fixed(spec, configs))
        notes += _notes(source, len(earlier) + num_unfinished, +left_out, other_fixed)
    return tuple(taken.values()), notes


def _earlier(spec: SearchSpec, source: Search | Run) -> tuple[list[_Earlier], int]:
    """Return what was trained to its end, the oldest first, and how many were not."""
    if isinstance(source, Run):
        is_whole = source.state is RunState.COMPLETED
        return ([_Earlier(source.id)], 0) if is_whole else ([], 1)
    whole = [t for t in source.trials if t.state is TrialState.COMPLETED and t.value is not None]
    is_same = source.spec.objective == spec.objective
    earlier = [
        _Earlier(
            trial.run_id,
            source.id,
            {**source.spec.fixed, **trial.params},
            trial.value if is_same else None,
        )
        for trial in best_and_latest(whole, source.rank_of)
    ]
    return earlier, len(source.trials) - len(whole)


async def _take(
    spec: SearchSpec, one: _Earlier, store: Store
) -> tuple[Taken, Mapping[str, PlainValue]]:
    configs: dict[str, PlainValue] = dict(one.params or {})
    try:
        run = await store.get(one.run_id)
        configs = {**run.configs, **run.request.overrides, **configs}
    except NotFound:
        if one.value is None:
            raise _LeftOutError("of a run that was deleted") from None
    missing = [key for key in spec.space if key not in configs]
    if missing:
        raise _LeftOutError(f"without a known {missing[0]}")
    params = {key: as_in(domain, configs[key]) for key, domain in spec.space.items()}
    if not all(contains(domain, params[key]) for key, domain in spec.space.items()):
        raise _LeftOutError("outside of the space")
    value = one.value
    if value is None:
        curve = await read_curve(store, one.run_id, spec.objective.metric)
        value = measure(spec.objective, curve).value
    if value is None:
        raise _LeftOutError(f"without a value of {spec.objective.metric}")
    return Taken(one.search_id, one.run_id, params, value), configs


def _other_fixed(spec: SearchSpec, configs: Mapping[str, PlainValue]) -> list[str]:
    return [
        f"{key}={configs[key]!r}, not {value!r}"
        for key, value in spec.fixed.items()
        if key in configs and configs[key] != value
    ]


def _notes(
    source: Search | Run, num: int, left_out: Counter[str], other_fixed: Counter[str]
) -> list[str]:
    what = "search" if isinstance(source, Search) else "run"
    notes = []
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        num_taken = num - left_out.total()
        notes.append(f"took over {num_taken} of {num} trials of {what} {source.id}: {reasons}")
    if other_fixed:
        kinds = "; ".join(f"{count} had {text}" for text, count in other_fixed.most_common(5))
        notes.append(f"the values of {what} {source.id} may not compare: {kinds}")
    return notes
