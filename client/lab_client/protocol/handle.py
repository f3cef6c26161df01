"""What the handles of both kinds have in common: the values behind them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lab_client.configs import ExperimentInfo, ExperimentSchema
from lab_client.errors import InvalidRequest, InvalidState, RunFailed, Violation
from lab_client.protocol import event_convert, folds
from lab_client.protocol.streams import EventStream, Fold, T, as_list
from lab_client.protocol.upload import ExperimentSource
from lab_client.protocol.values import RunValue, value_of
from lab_client.runs import RunInfo, RunState
from lab_rpc.v1 import event_pb2


class ExperimentHandle:
    """An experiment, as the server described it when it was asked.

    Attributes:
        info: its name and summary.
        schema: its config items.
        source: its name, or code with it: what `plan` and `create` are about.
    """

    def __init__(
        self,
        info: ExperimentInfo,
        schema: ExperimentSchema,
        source: ExperimentSource | None = None,
    ) -> None:
        self.info = info
        self.schema = schema
        self.source: ExperimentSource = info.name if source is None else source

    @property
    def name(self) -> str:
        """The name by which runs ask for it."""
        return self.info.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self.schema.items)} config items>"


class RunHandle:
    """A run, as the server described it last."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info

    @property
    def info(self) -> RunInfo:
        """The run as the server knew it when it was last asked; `refresh` asks again."""
        return self._info

    @property
    def id(self) -> str:
        """The run's id, unique on the server."""
        return self._info.id

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self._info.experiment

    @property
    def name(self) -> str:
        """The run's name, for people."""
        return self._info.name

    def value(self, name: str) -> RunValue:
        """Return a field, config or metric of the run as it was known last; None where there is none.

        Args:
            name: as in a condition: "duration" (seconds), "learning_rate", "config.step",
                "metric.valid loss", "max(accuracy)".

        Raises:
            InvalidRequest: if that names nothing of a run.
        """
        return value_of(self._info, name)

    def __repr__(self) -> str:
        info = self._info
        total = f"/{info.total_steps}" if info.total_steps else ""
        return f"<{type(self).__name__} {info.id} {info.experiment} {info.state} step {info.step}{total}>"

    def _point_fold(self, names: Iterable[str] | None, every: int) -> folds.PointFold:
        if every < 1:
            raise InvalidRequest([Violation("every", f"every must be at least 1, got {every}")])
        return folds.PointFold(as_list(names), every)

    def _needs_refresh(self, after_seq: int, follow: bool) -> bool:
        """Whether `_event_stream` has to know how the run is now."""
        return after_seq > 0 or not follow or self._info.state is RunState.CREATED

    def _event_stream(self, fold: Fold[T], after_seq: int, follow: bool) -> EventStream[T] | None:
        """Return the stream to read; None when there is nothing in it.

        Args:
            fold: makes what is yielded of an event.
            after_seq: begin after this event.
            follow: whether to go on with what comes.

        Raises:
            InvalidState: if the run was never started, so that nothing would come.
        """
        info = self._info
        if follow and info.state is RunState.CREATED:
            raise InvalidState(
                f"run {self.id} was not started, so nothing can be followed; call its start(), "
                "or read what there is with follow=False"
            )
        until_seq = None if follow else info.last_seq
        has_ended = info.state.is_terminal or not follow
        if (after_seq or not follow) and has_ended and info.last_seq <= after_seq:
            return None
        return EventStream(self.id, after_seq, fold, until_seq)

    def _not_saved(self) -> InvalidState:
        """Return the error for a run that ended before it had saved what it was asked for."""
        return InvalidState(f"run {self.id} ended before it had saved a checkpoint")

    def _note_end(self, end: event_pb2.StateChange) -> None:
        self._info = replace(self._info, state=event_convert.state(end.state), reason=end.reason)

    def _must_end(self) -> bool:
        """Whether there is an end to wait for.

        Raises:
            InvalidState: if the run was never started, so that the wait would have no end.
        """
        if self._info.state is RunState.CREATED:
            raise InvalidState(f"run {self.id} was not started; call its start() before waiting")
        return not self._info.state.is_terminal

    def _ended(self, check: bool) -> RunInfo:
        info = self._info
        if check and info.state is not RunState.COMPLETED:
            raise RunFailed(info.id, info.state, info.reason)
        return info
