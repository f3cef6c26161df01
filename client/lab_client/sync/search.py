"""The handle to a search, blocking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab_client.errors import LabError
from lab_client.protocol import search_operations as operations
from lab_client.protocol.calls import Operation
from lab_client.protocol.search_handle import SearchHandle, SearchStream, point_list
from lab_client.protocol.signatures import takes_rest
from lab_client.search_figure import plot_search, trials_frame
from lab_client.searches import SearchEntry, SearchInfo, SearchState, Trial
from lab_client.sync.shell import SyncShell
from lab_client.views.search_progress import SearchView, make_search_view

if TYPE_CHECKING:
    import pandas as pd


class Search(SearchHandle):
    """A handle to a search of the server; the search does not depend on it.

    Example:
        >>> from lab_client import Client, choice, log_uniform
        >>> with Client() as client:  # doctest: +SKIP
        ...     space = {"learning_rate": log_uniform(1e-3, 1e-1), "conv1_kernal": choice(3, 5)}
        ...     fixed = {"dataset": "mnist_5k", "epochs": 1}
        ...     study = client.search("mnist", space | fixed, maximize="accuracy", max_trials=2, seed=1)
        ...     study.wait(progress=True)
        ...     print(study.best.params, study.best.value)
    """

    def __init__(self, shell: SyncShell, info: SearchInfo) -> None:
        super().__init__(info)
        self._shell = shell

    def refresh(self) -> SearchInfo:
        """Ask the server how the search is now, and return that."""
        return self._note(self._shell.call(operations.get_search(self.id)))

    @property
    def state(self) -> SearchState:
        """The state, asked from the server unless the search had ended already."""
        return self._info.state if self._info.state.is_terminal else self.refresh().state

    @property
    def best(self) -> Trial | None:
        """The best trial so far; None before there is one. Of those trained to the end, if any was."""
        return (self._info if self._info.state.is_terminal else self.refresh()).best

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials so far, by number."""
        return tuple(self._shell.items(operations.list_trials(self.id)))

    def watch(
        self, *, after_seq: int = 0, follow: bool = True, timeout_s: float | None = None
    ) -> Iterator[SearchEntry]:
        """Yield the search's log: the entries after a seq, then live, up to its end.

        Through any number of reconnects none is left out and none comes twice.

        Args:
            after_seq: begin after this entry.
            follow: False ends with what there is now.
            timeout_s: how long the search may take to end.
        """
        if after_seq or not follow:
            self.refresh()
        stream = self._stream(after_seq, follow)
        return iter(()) if stream is None else self._read(stream, timeout_s)

    def _read(self, stream: SearchStream, timeout_s: float | None) -> Iterator[SearchEntry]:
        yield from self._shell.read(stream, timeout_s)
        try:
            self.refresh()  # `info` must not stay behind what was read
        except LabError:  # all that was asked for has been read: no reason to fail now
            return

    def wait(
        self, timeout_s: float | None = None, *, progress: bool = False, check: bool = False
    ) -> SearchInfo:
        """Wait for the search's end and return how it is then.

        Args:
            timeout_s: the longest wait; None waits as long as it takes.
            progress: show a bar, or plain lines where there is no terminal.
            check: raise when it ends in another state than COMPLETED.

        Raises:
            DeadlineExceeded: if it does not end in time; the search goes on.
            SearchFailed: if `check` and it did not complete.
        """
        if not self.refresh().state.is_terminal:
            with make_search_view(progress, self._info) as view:
                self.show_progress(view, timeout_s)
            self.refresh()
        return self._ended(check)

    def show_progress(self, view: SearchView, timeout_s: float | None = None) -> None:
        """Give a view all of the search's log, up to its end, and tell it what the search waits for.

        Args:
            view: is updated with every entry.
            timeout_s: how long the search may take to end.
        """
        stream = SearchStream(self.id, 0, on_waiting=view.waits)
        for entry in self._shell.read(stream, timeout_s):
            view.update(entry)

    def pause(self) -> Search:
        """Propose nothing more until `resume`, and return the search; what trains goes on."""
        self._note(self._shell.call(operations.set_paused(self.id, True)))
        return self

    def resume(self) -> Search:
        """Let a paused search go on, and return it."""
        self._note(self._shell.call(operations.set_paused(self.id, False)))
        return self

    @takes_rest(operations.extend, "id")
    def extend(self, operation: Operation[SearchInfo]) -> Search:
        """Change the budget and return the search; one that has ended goes on with a larger one.

        Args:
            max_trials: the number of trials in all, not what is added.
            max_steps: steps of all trials together; 0 for no limit.
            max_seconds: seconds since the search was created; 0 for no limit.
            parallel: trials that wait or train at a time.
        """
        self._note(self._shell.call(operation))
        return self

    def enqueue(self, points: Sequence[Mapping[str, object]] | Mapping[str, object]) -> Search:
        """Try these points before anything is proposed, and return the search.

        Args:
            points: values for some of what is searched, one point or several; what is missing in one is
                proposed.
        """
        self._note(self._shell.call(operations.enqueue(self.id, point_list(points))))
        return self

    def stop(self, *, with_trials: bool = True) -> Search:
        """Ask the search to stop and return it; `wait` tells when it has.

        Args:
            with_trials: stop its running trials, too; else they train to their next rung or end first.

        Raises:
            InvalidState: if it has ended.
        """
        self._note(self._shell.call(operations.stop_search(self.id, with_trials=with_trials)))
        return self

    def delete(self) -> None:
        """Delete the search, which has to have ended; its runs stay."""
        self._shell.call(operations.delete_search(self.id))

    def importances(self) -> dict[str, float]:
        """Return by item how much of the values' variance it explains, the most important first.

        They sum to 1 (PED-ANOVA, Watanabe et al., 2023). Empty with fewer than 4 values.
        """
        return self._shell.call(operations.importances(self.id))

    def to_pandas(self) -> pd.DataFrame:
        """Return the trials as a frame: a row each, by number, a column `params.KEY` for each item.

        Raises:
            MissingExtra: if pandas is not installed.
        """
        return trials_frame(self.trials())

    def plot(self) -> Any:
        """Draw the history and the trials in parallel coordinates; return the matplotlib figure.

        Raises:
            MissingExtra: if matplotlib is not installed.
        """
        return plot_search(self._info, self.trials())
