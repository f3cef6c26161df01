"""Sections and progress, also when the code in them raises."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator

import pytest

from lab_core import loop, monit
from lab_core.errors import LabError


def lines(out: io.StringIO) -> list[str]:
    return [re.sub(r"[\d.,]+ms", "<t>", line) for line in out.getvalue().splitlines()]


def test_a_section_says_that_it_is_done_and_how_long_it_took(out: io.StringIO) -> None:
    with monit.section("Load data"):
        pass
    assert lines(out) == ["Load data...[DONE]\t<t>"]


def test_a_section_that_raises_says_that_it_failed(out: io.StringIO) -> None:
    with pytest.raises(ZeroDivisionError), monit.section("Load data"):
        raise ZeroDivisionError
    assert lines(out) == ["Load data...[FAIL]\t<t>"]


def test_fail_marks_the_section_and_goes_on(out: io.StringIO) -> None:
    with monit.section("Outer"), monit.section("Inner", is_timed=False):
        monit.fail()
    assert lines(out) == ["  Inner...[FAIL]", "Outer...[DONE]\t<t>"]


def test_a_silent_section_and_all_in_it_show_nothing(out: io.StringIO) -> None:
    with monit.section("Outer", is_silent=True), monit.section("Inner"):
        monit.progress(0.5)
    assert lines(out) == []


def test_enum_counts_and_iterate_does_not(out: io.StringIO) -> None:
    assert list(monit.enum("Train", "abc")) == [(0, "a"), (1, "b"), (2, "c")]
    assert list(monit.iterate("Valid", "abc")) == ["a", "b", "c"]
    assert list(monit.iterate("Number", 3)) == [0, 1, 2]
    assert list(monit.iterate("Generator", (i for i in range(2)), 2)) == [0, 1]
    assert lines(out) == [f"{n}...[DONE]\t<t>" for n in ("Train", "Valid", "Number", "Generator")]


def test_an_exception_inside_enum_leaves_nothing_open(out: io.StringIO) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the loop is what is tested
        for i, _ in monit.enum("Train", range(10)):
            if i == 3:
                raise ZeroDivisionError
    for _ in monit.enum("Again", range(3)):
        pass
    assert lines(out) == ["Train... 3/10 [LEFT]\t<t>", "Again...[DONE]\t<t>"]


def test_a_break_leaves_nothing_open(out: io.StringIO) -> None:
    for i in monit.iterate("Train", 10):
        if i == 3:
            break
    with monit.section("Next"):
        pass
    assert lines(out) == ["Train... 3/10 [LEFT]\t<t>", "Next...[DONE]\t<t>"]


def test_a_loader_that_raises_is_a_failure(out: io.StringIO) -> None:
    def load() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        list(monit.iterate("Train", load()))
    assert lines(out) == ["Train...[FAIL]\t<t>"]


@pytest.mark.parametrize("stop", [loop.StopRun(), KeyboardInterrupt()], ids=["asked", "Ctrl-C"])
def test_a_stop_is_no_failure(out: io.StringIO, stop: BaseException) -> None:
    def load() -> Iterator[int]:
        yield from range(3)
        raise stop

    with pytest.raises(type(stop)), monit.section("Epoch"):
        list(monit.iterate("Train", load(), 10))
    assert lines(out) == ["  Train... 3/10 [STOPPED]\t<t>", "Epoch...[STOPPED]\t<t>"]


def test_what_was_forgotten_is_closed_with_the_section_around_it(out: io.StringIO) -> None:
    with monit.section("Outer"):
        forgotten = monit.enum("Forgotten", range(10))
        next(forgotten)
    with monit.section("Next"):
        pass
    forgotten.close()  # type: ignore[attr-defined]
    assert lines(out) == ["Outer...[DONE]\t<t>", "Next...[DONE]\t<t>"]


def test_enum_asks_once_for_an_iterator_and_counts_on_from_where_a_loader_resumes(
    out: io.StringIO,
) -> None:
    class Loader:
        num_iters = 0
        start_index = 0

        def __len__(self) -> int:
            return 5

        def __iter__(self) -> Iterator[str]:
            self.num_iters += 1
            self.start_index = 3
            return iter("de")

    loader = Loader()
    assert list(monit.enum("Train", loader)) == [(3, "d"), (4, "e")]
    assert loader.num_iters == 1


def test_progress_outside_of_a_section_is_an_error() -> None:
    with pytest.raises(LabError, match=r"monit.progress\(\) outside of a section"):
        monit.progress(0.5)
    with pytest.raises(LabError, match=r"monit.fail\(\)"):
        monit.fail()


def test_sections_of_another_thread_are_its_own(out: io.StringIO) -> None:
    def work() -> None:
        with monit.section("Other"):
            monit.progress(0.5)

    with monit.section("Main"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert lines(out) == ["Other...[DONE]\t<t>", "Main...[DONE]\t<t>"]


def test_progress_is_a_sign_of_life(out: io.StringIO) -> None:
    before = loop.activity_count()
    with monit.section("Work"):
        monit.progress(0.1)
    assert loop.activity_count() == before + 1
    list(monit.enum("Train", range(5)))
    assert loop.activity_count() == before + 6
