"""The blocking client: a method for everything that the service can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from lab_client.configs import ExperimentInfo, Plan
from lab_client.events import Event, MetricsUpdate
from lab_client.history import History
from lab_client.protocol import folds, fork_operations, operations, search_operations, streams
from lab_client.protocol.calls import CallSequence, Operation
from lab_client.protocol.code_diff import CodeDiff
from lab_client.protocol.download import Download
from lab_client.protocol.pages import Pages
from lab_client.protocol.signatures import takes
from lab_client.protocol.upload import ExperimentSource, as_source, with_code
from lab_client.runs import Artifact, Dashboard, RunInfo, ServerInfo
from lab_client.searches import SearchInfo
from lab_client.sync.experiment import Experiment
from lab_client.sync.run import Run
from lab_client.sync.search import Search
from lab_client.sync.shell import SyncShell
from lab_client.transport.base import BaseClient


class Client(BaseClient[SyncShell]):
    """A connection to a lab-server. Connects at the first call; threads may share it.

    The arguments are those of `BaseClient`: where the server is, how to prove who asks, and how
    long to wait. Every one of its methods raises an error of `lab_client.errors`, never another's.

    Example:
        >>> from lab_client import Client
        >>> with Client("localhost:50051") as client:  # doctest: +SKIP
        ...     run = client.create("mnist", {"dataset": "mnist_5k", "epochs": 1}, tags=["demo"]).start()
        ...     for point in run.metrics(names="train_loss", every=100):
        ...         print(point.step, point.values)
        ...     print(run.wait().state)
    """

    _open_shell = SyncShell

    def close(self) -> None:
        """Close the connection; open streams end with an error."""
        self._shell.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def server_info(self) -> ServerInfo:
        """Return the server's version, slots and queue."""
        return self._shell.call(operations.server_info())

    def dashboard(self) -> Dashboard:
        """Return where the dashboard is, with a code that opens one session.

        Raises:
            InvalidState: if the server has none.
        """
        return self._shell.call(operations.dashboard())

    def wait_ready(self, timeout_s: float = 30.0) -> ServerInfo:
        """Wait for a server that is starting.

        Raises:
            Unavailable: if none answers within the time.
        """
        return self._shell.check_server(timeout_s)

    def experiments(self) -> tuple[ExperimentInfo, ...]:
        """Return the experiments that the server can run."""
        return self._shell.call(operations.experiments())

    def experiment(self, name: ExperimentSource) -> Experiment:
        """Return a handle to an experiment, with the schema of its configs.

        Args:
            name: its name, or code with it, as `create` takes it.

        Raises:
            ExperimentNotFound: if there is none with this name.
        """
        source = as_source(name)
        found = self._shell.call_all(with_code(source, operations.experiment))
        return Experiment(self._shell, *found, source)

    @takes(operations.plan)
    def plan(self, calls: CallSequence[Plan]) -> Plan:
        """Resolve a config message without running anything.

        Args:
            experiment: its name, or code with it, as `create` takes it.
            overrides: configs to set.
            run_order: what to compute first, in this order.
            models: items to checkpoint; None takes all models and optimizers.
            options: what `create` would be given: a place that no slot is in is refused here, too. None asks
                for the configs alone.
            parent: plan a fork from this checkpoint of another run; `run.plan_fork` is simpler.

        Raises:
            ConfigError: if it is wrong, with all that is wrong.
        """
        return self._shell.call_all(calls)

    @takes(operations.create)
    def create(self, calls: CallSequence[RunInfo]) -> Run:
        """Create a run, which does not start yet.

        Args:
            experiment: its name; or code to send, where the server allows that: the path of a file or of
                a package, such as "./sine.py", an imported module, or what `uploads.bundle.collect`
                returned. "./sine.py:small" is the experiment `small` of a file that has several.
            overrides: values for some of its config items.
            run_order: what to compute first; None is the experiment's own order.
            models: config items to checkpoint; None means all models and optimizers.
            name: for people; the experiment's name when empty.
            tags: labels to find it by.
            notes: free text.
            options: priority, device and the like.
            parent: continue from this checkpoint of another run; `fork` is simpler.
            idempotency_key: the same key with the same request gives the same run. A new one for
                each call when None, so that a retry of the client never creates two.

        Raises:
            ConfigError: if the configs are wrong, with all that is wrong, or the code cannot be imported.
            PermissionDenied: if the server takes no code, or none from you.
            UploadError: if code cannot be sent.
        """
        return Run(self._shell, self._shell.call_all(calls))

    def start(self, run_id: str, *, resume: bool = False, until_step: int | None = None) -> RunInfo:
        """Queue a created run; with `resume`, a stopped or failed one, from its last checkpoint.

        Args:
            run_id: the run.
            resume: whether it was started before.
            until_step: save and stop it at this step; resumed, it goes on as if it had never stopped.

        Raises:
            InvalidState: if it was started before, cannot be resumed, or is at that step already.
            QueueFull: if too many runs wait already.
        """
        return self._shell.call(operations.queue(run_id, resume=resume, until_step=until_step))

    def get(self, run_id: str) -> RunInfo:
        """Return a run as it is now; a unique prefix of its id is enough.

        Raises:
            RunNotFound: if there is none.
        """
        return self._shell.call(operations.get(run_id))

    def run(self, run_id: str) -> Run:
        """Attach to a run, from anywhere; a unique prefix of its id is enough.

        Raises:
            RunNotFound: if there is none.
        """
        return Run(self._shell, self.get(run_id))

    @takes(operations.list_runs)
    def runs(self, pages: Pages[RunInfo]) -> Iterator[Run]:
        """Yield the runs for which all filters hold, the newest first, page by page.

        When there are none, an `UnknownName` warning names what in `where` may be misspelt.

        Args:
            experiment: the experiment's name.
            states: any of these.
            tags: all of these.
            name_contains: text in the run's name.
            where: a condition over fields, configs and metrics, such as "learning_rate < 0.1 and
                max(accuracy) > 0.97 and state = completed".
            order_by: whatever a condition may name, such as "create_time", "duration",
                "learning_rate" or "max(accuracy)", with " desc" behind it for the largest first.
            limit: the most runs to yield; None for all.

        Raises:
            InvalidRequest: if the condition is wrong, with the place where.
        """
        for info in self._shell.items(pages):
            yield Run(self._shell, info)

    @takes(operations.count_runs)
    def count_runs(self, operation: Operation[int]) -> int:
        """Return the number of runs for which all filters hold; see `runs`."""
        return self._shell.call(operation)

    @takes(operations.update)
    def update(self, operation: Operation[RunInfo]) -> RunInfo:
        """Change a run's name, tags or notes; what is None stays.

        Args:
            run_id: the run.
            name: the new name.
            tags: all its tags, in place of those that it has.
            notes: the new text.
            add_tags: tags to add to those that it has.
            remove_tags: tags to remove, as far as it has them.
        """
        return self._shell.call(operation)

    def delete(self, run_id: str) -> None:
        """Delete a run that has ended, with all its files.

        Raises:
            InvalidState: if it has not ended.
        """
        self._shell.call(operations.delete(run_id))

    def stop(
        self, run_id: str, *, checkpoint: bool = False, grace_s: float | None = None
    ) -> RunInfo:
        """Ask a run to stop; returns when the request is recorded.

        Args:
            run_id: the run.
            checkpoint: write one at the step at which it stops, to resume from.
            grace_s: seconds after which it is ended by signals; None is the server's default.

        Raises:
            InvalidState: if it has ended already.
        """
        return self._shell.call(operations.stop(run_id, checkpoint=checkpoint, grace_s=grace_s))

    @takes(fork_operations.fork)
    def fork(self, calls: CallSequence[RunInfo]) -> Run:
        """Start a new run from another's checkpoint, with its configs and the changes to them.

        Args:
            run_id: the other run.
            step: the checkpoint's step; None takes the newest.
            overrides: the changed configs.
            name: the other run's when empty.
            tags: the other run's when None.
            notes: free text.
            options: the other run's when None.
            start: False creates it only.
            more_epochs: epochs more than the other run was given; `epochs` itself is the total, counted
                from step 0.

        Raises:
            CheckpointNotFound: if there is no such checkpoint.
            ConfigError: if the checkpoint cannot go on with these configs, or is not before their end.
        """
        return Run(self._shell, self._shell.call_all(calls))

    def watch(
        self, run_id: str, *, after_seq: int = 0, timeout_s: float | None = None
    ) -> Iterator[Event]:
        """Yield a run's events: the history after a seq, then live, up to the run's end.

        Through any number of reconnects none is left out and none comes twice.

        Raises:
            EventGap: if the server left events out.
            Unavailable: if there was no progress for `reconnect_timeout_s`.
            DeadlineExceeded: if the run did not end within `timeout_s`.
        """
        if after_seq:
            info = self.get(run_id)
            if info.state.is_terminal and info.last_seq <= after_seq:
                return iter(())
        stream = streams.EventStream(run_id, after_seq, folds.to_events)
        return self._shell.read(stream, timeout_s)

    @takes(streams.metrics_stream)
    def watch_metrics(self, stream: streams.MetricsStream) -> Iterator[MetricsUpdate]:
        """Yield the metrics, truncations and ends of many runs, without end: for other services.

        Args:
            run_ids: any of these runs.
            experiment: the experiment's name.
            tags: all of these tags.
            names: any of these metrics, with * and ? as wildcards.
            cursor: go on after this `MetricsUpdate.cursor`.
            from_start: without a cursor, begin with the oldest event and not with the next one.
        """
        return self._shell.read(stream)

    @takes(operations.query_metrics)
    def query_metrics(self, operation: Operation[History]) -> History:
        """Return a run's metrics so far; no step comes twice.

        Args:
            run_id: the run.
            names: any of these metrics, with * and ? as wildcards; none gets all.
            max_points: the most points for each metric, downsampled; 0 means all.
            min_step: the first step.
            max_step: the last step.
        """
        return self._shell.call(operation)

    @takes(search_operations.create_search)
    def search(self, operation: Operation[SearchInfo]) -> Search:
        """Search for good configs; each trial is a run like any other. It starts at once.

        Args:
            experiment: the name of an experiment that the server has.
            space: by config item what to search (`choice`, `uniform`, `log_uniform`, `int_range`,
                `anything`), or a plain value that is the same for all trials.
            maximize: the metric whose larger values are better; or
            minimize: the one whose smaller values are.
            max_trials: the number of trials in all; None takes the whole of a grid.
            parallel: trials that wait or train at a time.
            sampler: "grid", "random", "quasi_random" or "tpe"; when empty grid if every item is a choice,
                else tpe.
            seed: the same search with the same seed gives the same trials; None takes a random one.
            lockstep: a proposal depends on the trials before it in a fixed order, and not on which was
                faster; None does so when a seed is given.
            halving: train every trial a little, then continue the best.
            median_stopping: stop trials that are worse than the median.
            max_steps: propose nothing more after so many steps of all trials together; 0 for no limit.
            max_seconds: the same after so many seconds; 0 for no limit.
            reduction: which of a run's values counts: the "last", the "best", or the "mean" of the last
                `num_last`.
            num_last: of how many values the mean is taken.
            run_order: what each trial computes first; None is the experiment's own order.
            models: config items to checkpoint; None means all models and optimizers.
            name: for people; the experiment's name when empty.
            tags: labels, which the trials get, too.
            notes: free text.
            options: priority, device and the like of each trial.
            warm_start: earlier searches and runs of the experiment, as handles or ids: what they came to is
                known from the start. With "tpe", which is the default then.
            idempotency_key: the same key with the same request gives the same search.

        Raises:
            InvalidRequest: if it cannot be searched so, with all that is wrong.
            ExperimentNotFound: if there is no such experiment.
        """
        return Search(self._shell, self._shell.call(operation))

    def get_search(self, search_id: str) -> Search:
        """Attach to a search, from anywhere; a unique prefix of its id is enough.

        Raises:
            SearchNotFound: if there is none.
        """
        return Search(self._shell, self._shell.call(search_operations.get_search(search_id)))

    @takes(search_operations.list_searches)
    def searches(self, pages: Pages[SearchInfo]) -> Iterator[Search]:
        """Yield the searches for which all filters hold, the newest first, page by page.

        Args:
            experiment: the experiment's name.
            states: any of these.
            limit: the most searches to yield; None for all.
        """
        for info in self._shell.items(pages):
            yield Search(self._shell, info)

    def code_diff(self, run_id: str, other_id: str) -> str:
        """Return a unified diff from the code of one run to that of another; "" when it is equal.

        Raises:
            InvalidState: if one of them was not started yet.
            ArtifactNotFound: if somebody removed the copies of its files.
        """
        with CodeDiff(self.get(run_id), self.get(other_id)) as diff:
            for download in diff.downloads():
                self._shell.download(download)
            return diff.text()

    def artifacts(self, run_id: str) -> tuple[Artifact, ...]:
        """Return the files of a run."""
        return self._shell.call(operations.artifacts(run_id))

    def download(self, run_id: str, path: str, to: str | os.PathLike[str] | None = None) -> Path:
        """Download a file of a run; an interrupted one continues where it stopped.

        Args:
            run_id: the run.
            path: one that `artifacts` gave.
            to: the file to write, or a folder, one that is there or ends with a slash, to write it into;
                None is the working folder.

        Returns:
            The file that was written, its hash verified.

        Raises:
            ArtifactNotFound: if there is no such file.
            DownloadError: if it cannot be written, or what came is not what the server has.
        """
        return self._shell.download(Download(run_id, path, to))
