"""At which step a metric stands."""

from __future__ import annotations

from collections.abc import Callable

from lab_core import loop, monit, tracker
from lab_core.writers import MemoryWriter

Saved = Callable[[], MemoryWriter]


def train(num_batches: int, *, save_every: int = 1) -> None:
    for i, _ in monit.enum("Train", range(num_batches), is_silent=True):
        tracker.add(train_loss=float(i))
        loop.add_global_step()
        if i % save_every == 0:
            tracker.save()


def test_save_takes_the_global_step() -> None:
    kept = MemoryWriter()
    with tracker.Tracker([kept]) as current:
        loop.set_global_step(41)
        current.add(x=1.0)
        loop.add_global_step()
        current.save()
    assert kept.scalars == {"x": [(42, 1.0)]}


def test_metrics_of_an_epoch_stand_at_the_step_they_were_measured_at(saved: Saved) -> None:
    for epoch in range(2):
        train(3)
        tracker.add(accuracy=float(epoch))  # as the tutorial has it: no save of its own
    tracker.current().close()
    assert saved_after_close(saved) == {
        "train_loss": [(step, float((step - 1) % 3)) for step in range(1, 7)],
        "accuracy": [(3, 0.0), (6, 1.0)],
    }


def test_a_mean_stands_at_the_step_of_its_last_value(saved: Saved) -> None:
    train(4, save_every=2)
    tracker.save()
    assert saved().scalars["train_loss"] == [(1, 0.0), (3, 1.5), (4, 3.0)]


def test_what_is_left_of_an_epoch_stands_at_its_end(saved: Saved) -> None:
    train(4, save_every=2)
    train(1)
    # The mean of 3.0, of the epoch before, and 0.0, the last of which was measured at step 5.
    assert saved().scalars["train_loss"][-1] == (5, 1.5)


def test_what_a_loop_leaves_unsaved_stands_at_its_own_value(saved: Saved) -> None:
    for step in loop.loop(6):
        tracker.add(loss=float(step))
        if step == 3:
            tracker.save(other=1.0)
        elif step == 4:
            tracker.add(late=4.0)
    tracker.save()
    assert saved().scalars == {
        "loss": [(3, 1.5), (5, 4.5)],
        "other": [(3, 1.0)],
        "late": [(4, 4.0)],
    }


def test_a_boundary_ends_an_iteration_too(saved: Saved) -> None:
    tracker.add(loss=1.0)
    loop.add_global_step()
    loop.boundary()
    loop.add_global_step()
    tracker.save()
    assert saved().scalars == {"loss": [(1, 1.0)]}


def test_a_step_that_is_given_is_the_step(saved: Saved) -> None:
    for i, _ in monit.enum("Train", range(3), is_silent=True):
        tracker.add(loss=float(i))
        if i == 2:
            tracker.save(100)
    assert saved().scalars == {"loss": [(100, 1.0)]}


def test_a_step_that_is_given_wins_over_that_of_an_iteration_that_ended(saved: Saved) -> None:
    loop.set_global_step(3)
    tracker.add(accuracy=0.5)
    tracker.settle()
    loop.set_global_step(4)
    tracker.save(7, loss=0.25)
    assert saved().scalars == {"accuracy": [(7, 0.5)], "loss": [(7, 0.25)]}


def test_close_saves_what_is_left() -> None:
    kept = MemoryWriter()
    with tracker.Tracker([kept]) as current:
        loop.set_global_step(7)
        current.add(x=1.0)
        current.settle()
        loop.set_global_step(9)
    assert kept.scalars == {"x": [(7, 1.0)]}


def saved_after_close(saved: Saved) -> dict[str, list[tuple[int, float]]]:
    (writer,) = tracker.current().writers
    assert isinstance(writer, MemoryWriter)
    return writer.scalars
