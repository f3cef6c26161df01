"""What every store must do with histories: keep chunks of metrics, replace them, and drop them with their run."""

from __future__ import annotations

from lab_server.store import Store
from lab_server.store.protocol import History, NewSeriesChunk
from tests.contracts.stores import a_run, grow, some_events


def a_chunk(metric: str, first_step: int, num_points: int = 10) -> NewSeriesChunk:
    last_step = first_step + num_points - 1
    data = f"{metric} {first_step}".encode()
    return NewSeriesChunk(metric, first_step, last_step, num_points, b"s " + data, b"p " + data)


async def test_a_history_is_taken_from_seq_to_seq_and_its_chunks_are_replaced(store: Store) -> None:
    run, other = await store.create(a_run("r1"), None), await store.create(a_run("r2"), None)
    run, _ = await grow(store, run, some_events(5))
    await grow(store, other, some_events(1))
    assert await store.runs_with_history_behind() == ("r1", "r2")

    assert await store.write_history(
        "r1", 0, 3, [], [a_chunk("b", 20), a_chunk("b", -5), a_chunk("a", 0)]
    )
    assert await store.write_history("r2", 0, 1, [], [a_chunk("a", 7)])
    first = await store.history("r1")
    assert await store.runs_with_history_behind() == ("r1",)
    (cut,) = [chunk.id for chunk in first.chunks if chunk.first_step == 20]
    assert await store.write_history("r1", 3, 5, [cut], [a_chunk("b", 20, 4)])

    found = await store.history("r1")
    assert found.last_seq == 5
    assert [(c.metric, c.first_step, c.last_step, c.num_points) for c in found.chunks] == [
        ("a", 0, 9, 10),
        ("b", -5, 4, 10),
        ("b", 20, 23, 4),
    ]
    only_a = await store.history("r1", lambda name: name == "a")
    assert only_a == History(5, found.chunks[:1])
    ids = [chunk.id for chunk in found.chunks]
    assert await store.chunk_data([cut, *ids], "points") == {
        ids[0]: b"p a 0",
        ids[1]: b"p b -5",
        ids[2]: b"p b 20",
    }
    assert await store.chunk_data(ids[:1], "summary") == {ids[0]: b"s a 0"}
    assert await store.runs_with_history_behind() == ()
    assert cut not in ids


async def test_the_histories_of_several_runs_are_read_at_once(store: Store) -> None:
    for run_id in ("r1", "r2", "r3"):
        await grow(store, await store.create(a_run(run_id), None), some_events(2))
    await store.write_history("r1", 0, 2, [], [a_chunk("b", 5), a_chunk("a", 0), a_chunk("B", 0)])
    await store.write_history("r2", 0, 1, [], [a_chunk("b", 20), a_chunk("b", 9)])

    found = await store.histories(["r2", "nobody", "r1"], lambda name: name != "a")

    assert {run_id: history.last_seq for run_id, history in found.items()} == {
        "r1": 2,
        "r2": 1,
        "nobody": 0,
    }
    assert [(c.metric, c.first_step) for c in found["r1"].chunks] == [("B", 0), ("b", 5)]
    assert [(c.metric, c.first_step) for c in found["r2"].chunks] == [("b", 9), ("b", 20)]
    assert found["nobody"].chunks == ()
    assert await store.histories([]) == {}


async def test_a_history_that_somebody_else_took_further_is_left_alone(store: Store) -> None:
    run = await store.create(a_run("r1"), None)
    await grow(store, run, some_events(5))
    assert await store.write_history("r1", 0, 3, [], [a_chunk("a", 0)])
    before = await store.history("r1")

    for run_id, after_seq in (("r1", 0), ("r1", 4), ("nobody", 0)):
        removed = [chunk.id for chunk in before.chunks]
        assert not await store.write_history(run_id, after_seq, 5, removed, [a_chunk("a", 9)])

    assert await store.history("r1") == before
    assert await store.history("nobody") == History(0, ())


async def test_a_history_goes_when_it_is_dropped_or_its_run_is_purged(store: Store) -> None:
    for run_id in ("r1", "r2", "r3"):
        await grow(store, await store.create(a_run(run_id), None), some_events(1))
        await store.write_history(run_id, 0, 1, [], [a_chunk("a", 0)])

    await store.drop_history("r1")
    await store.delete("r2")
    await store.purge("r2")

    assert await store.history("r1") == await store.history("r2") == History(0, ())
    assert len((await store.history("r3")).chunks) == 1
    assert await store.runs_with_history_behind() == ("r1",)
    await store.create(a_run("r2"), None)
    assert await store.write_history("r2", 0, 0, [], [a_chunk("a", 0)])


async def test_the_data_of_thousands_of_chunks_is_read_at_once(store: Store) -> None:
    await grow(store, await store.create(a_run("r1"), None), some_events(1))
    await store.write_history("r1", 0, 1, [], [a_chunk("a", 10 * i) for i in range(1200)])

    ids = [chunk.id for chunk in (await store.history("r1")).chunks]

    assert len(await store.chunk_data(ids, "points")) == 1200
    assert await store.write_history("r1", 1, 1, ids, [])
    assert (await store.history("r1")).chunks == ()
