"""What is read from the service's streams, as state machines that survive any number of reconnects.

No I/O: the two shells open a call with `request()`, hand every answer to `receive()`, and when the
call ends without `is_complete` they open the next one, which goes on where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from lab_client.errors import EventGap, InvalidRequest, Violation
from lab_client.events import MetricsUpdate
from lab_client.protocol import event_convert
from lab_client.protocol.calls import sendable
from lab_rpc.v1 import event_pb2
from lab_rpc.v1 import training_service_pb2 as pb

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Fold = Callable[[event_pb2.RunEvent], Iterable[T]]


class Resumable(Protocol[T_co]):
    """A stream that can be read on from where it stopped."""

    @property
    def rpc(self) -> str:
        """The RPC's name."""

    @property
    def what(self) -> str:
        """What is read, for sentences."""

    @property
    def is_enough(self) -> bool:
        """Whether nothing more is wanted, though the server may have more."""

    @property
    def is_complete(self) -> bool:
        """Whether the stream may end here."""

    def request(self) -> Message:
        """Return what asks for the rest."""

    def receive(self, response: Any) -> Iterable[T_co]:
        """Take an answer in and return what it holds."""


class EventStream(Generic[T]):
    """The events of one run: gap-free, none twice, complete only after a terminal state.

    A resumed run has terminal states in the middle of its log, so what counts is whether the last
    event is one when the server ends the stream.

    Args:
        run_id: the run.
        after_seq: events up to this one are known already.
        fold: makes what is yielded of an event.
        until_seq: enough after this one; None reads up to the end of the run.
        on_heartbeat: is called when the server says that nothing has happened for a while.
    """

    rpc = "WatchRun"

    def __init__(
        self,
        run_id: str,
        after_seq: int,
        fold: Fold[T],
        until_seq: int | None = None,
        on_heartbeat: Callable[[], None] | None = None,
    ) -> None:
        check_seq(after_seq)
        self._run_id = run_id
        self._last_seq = after_seq
        self._on_heartbeat = on_heartbeat
        self._fold = fold
        self._until_seq = until_seq
        self._end: event_pb2.StateChange | None = None
        self.what = f"watching run {run_id}"

    @property
    def end(self) -> event_pb2.StateChange | None:
        """The terminal state that was the last event; None when it was another event."""
        return self._end

    @property
    def is_enough(self) -> bool:
        """Whether the last event that was asked for came."""
        return self._until_seq is not None and self._last_seq >= self._until_seq

    @property
    def is_complete(self) -> bool:
        """Whether the last event was a terminal state."""
        return self._end is not None or self.is_enough

    def request(self) -> Message:
        """Ask for the events after the last one."""
        return pb.WatchRunRequest(run_id=self._run_id, after_seq=self._last_seq)

    def receive(self, response: pb.WatchRunResponse) -> Iterable[T]:
        """Check the order of the events and return what the fold makes of them, to go through once.

        Each event is folded when its turn comes: the first need not wait for the last.

        Raises:
            EventGap: if the server left some out.
        """
        if self._on_heartbeat is not None and not response.events:
            self._on_heartbeat()
        new: list[event_pb2.RunEvent] = []
        last_seq, until_seq = self._last_seq, self._until_seq
        message = None
        for message in response.events:
            seq = message.seq
            if seq <= last_seq:
                continue
            if seq != last_seq + 1:
                raise EventGap(self._run_id, last_seq + 1, seq)
            last_seq = seq
            new.append(message)
            if seq == until_seq:
                break
        if message is not None and message.seq == last_seq != self._last_seq:
            is_end = (
                message.HasField("state") and message.state.state in event_convert.TERMINAL_STATES
            )
            self._end = message.state if is_end else None
        self._last_seq = last_seq
        return chain.from_iterable(map(self._fold, new))


class MetricsStream:
    """The metrics of many runs; it never ends by itself.

    Args:
        request: the filters, and where to begin.
    """

    rpc = "WatchMetrics"
    what = "watching metrics"
    is_enough = False
    is_complete = False

    def __init__(self, request: pb.WatchMetricsRequest) -> None:
        self._request = request

    def request(self) -> Message:
        """Ask for what comes after the last answer."""
        return self._request

    def receive(self, response: pb.WatchMetricsResponse) -> list[MetricsUpdate]:
        """Return the updates; the last one of an answer carries the answer's cursor."""
        before, after = self._request.cursor, response.cursor
        last = len(response.batches) - 1
        if after:
            self._request.cursor = after
        return [
            MetricsUpdate(
                batch.run_id,
                batch.experiment,
                event_convert.event(batch.event),
                after if index == last else before,
            )
            for index, batch in enumerate(response.batches)
        ]


def metrics_stream(
    *,
    run_ids: Iterable[str] = (),
    experiment: str = "",
    tags: Iterable[str] = (),
    names: Iterable[str] = (),
    cursor: str = "",
    from_start: bool = False,
) -> MetricsStream:
    """Return a stream of the metrics of all runs that match."""
    request = sendable(
        lambda: pb.WatchMetricsRequest(
            run_ids=as_list(run_ids),
            experiment=experiment,
            tags=as_list(tags),
            names=as_list(names),
            cursor=cursor,
            from_start=from_start,
        )
    )
    return MetricsStream(request)


def check_seq(after_seq: int) -> None:
    """Raise when a seq to begin after is none.

    Raises:
        InvalidRequest: if so.
    """
    if not 0 <= after_seq < 2**63:
        sentence = f"after_seq is the seq of what was seen last, 0 for nothing, got {after_seq}"
        raise InvalidRequest([Violation("after_seq", sentence)])


def as_list(names: Iterable[str] | None) -> list[str]:
    """Return names as a list; one alone need not be in one."""
    return [names] if isinstance(names, str) else list(names or ())
