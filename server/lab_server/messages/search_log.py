"""The codec of a search's log: each entry is encoded once, and stored and streamed as the same bytes."""

from __future__ import annotations

from collections.abc import Iterable

from lab_rpc.v1 import search_pb2, search_service_pb2
from lab_server.messages import wire
from lab_server.messages.searches import (
    Defaults,
    budget_from_proto,
    budget_to_proto,
    enum_from_proto,
    enum_to_proto,
    params_from_proto,
    params_to_proto,
    spec_from_proto,
    spec_to_proto,
)
from lab_server.model.search import Sampler, SearchState, TrialState
from lab_server.model.search_log import (
    Asked,
    BudgetChanged,
    Created,
    Ended,
    Enqueued,
    Entry,
    LogEntry,
    Paused,
    Promoted,
    Pruned,
    Resumed,
    Started,
    Stopping,
    Taken,
    TakenOver,
    Told,
)

pb = search_pb2
_RESPONSE = search_service_pb2.WatchSearchResponse
_TAG_ENTRIES = wire.tag(_RESPONSE.DESCRIPTOR.fields_by_name["entries"].number, wire.BYTES)
_UNUSED = Defaults(Sampler.GRID, 0)  # a log's own spec leaves nothing open


def encode(log_entry: LogEntry) -> bytes:
    """Return an entry as bytes."""
    message = pb.SearchEntry(seq=log_entry.seq, time_unix_ns=log_entry.time_ns)
    _fill(message, log_entry.entry)
    return message.SerializeToString(deterministic=True)


def decode(payload: bytes) -> LogEntry:
    """Return the entry that was encoded."""
    message = pb.SearchEntry.FromString(payload)
    return LogEntry(message.seq, message.time_unix_ns, _entry(message))


def response(payloads: Iterable[bytes], waits_for: str) -> bytes:
    """Return an encoded WatchSearchResponse: entries as they were encoded, and why the search waits."""
    entries = b"".join(wire.message(_TAG_ENTRIES, payload) for payload in payloads)
    return entries + _RESPONSE(waits_for=wire.text_of(waits_for)).SerializeToString()


def _fill(message: search_pb2.SearchEntry, entry: Entry) -> None:  # noqa: C901 - a case a kind
    match entry:
        case Created(spec):
            message.created.spec.CopyFrom(spec_to_proto(spec))
        case TakenOver(trials):
            message.taken_over.CopyFrom(pb.TrialsTakenOver(trials=map(_taken_to_proto, trials)))
        case Asked():
            message.asked.CopyFrom(
                pb.TrialAsked(
                    number=entry.number,
                    params=params_to_proto(entry.params),
                    seed=entry.seed,
                    num_seen=entry.num_seen,
                    seen_seq=entry.seen_seq,
                    sampler=entry.sampler,
                    is_enqueued=entry.is_enqueued,
                )
            )
        case Started(number, run_id):
            message.started.CopyFrom(pb.TrialStarted(number=number, run_id=run_id))
        case Promoted(number, rung, until_step):
            message.promoted.CopyFrom(
                pb.TrialPromoted(number=number, rung=rung, until_step=until_step)
            )
        case Pruned(number, step, value, reason):
            message.pruned.CopyFrom(
                pb.TrialPruned(number=number, step=step, value=value, reason=wire.text_of(reason))
            )
        case Told():
            message.told.CopyFrom(
                pb.TrialTold(
                    number=entry.number,
                    rung=entry.rung,
                    state=enum_to_proto(entry.state),
                    value=entry.value,
                    step=entry.step,
                    run_seq=entry.run_seq,
                    reason=wire.text_of(entry.reason),
                )
            )
        case Enqueued(points):
            message.enqueued.CopyFrom(
                pb.PointsEnqueued(points=[pb.Point(params=params_to_proto(p)) for p in points])
            )
        case BudgetChanged(budget):
            message.budget_changed.budget.CopyFrom(budget_to_proto(budget))
        case Paused(reason):
            message.paused.CopyFrom(pb.SearchPaused(reason=wire.text_of(reason)))
        case Resumed():
            message.resumed.SetInParent()
        case Stopping(with_trials, reason):
            message.stopping.CopyFrom(
                pb.SearchStopping(with_trials=with_trials, reason=wire.text_of(reason))
            )
        case Ended(state, reason):
            message.ended.CopyFrom(
                pb.SearchEnded(state=enum_to_proto(state), reason=wire.text_of(reason))
            )


def _entry(message: search_pb2.SearchEntry) -> Entry:  # noqa: C901 - a case a kind
    kind = message.WhichOneof("kind")
    match kind:
        case "created":
            return Created(spec_from_proto(message.created.spec, _UNUSED))
        case "taken_over":
            return TakenOver(tuple(map(_taken, message.taken_over.trials)))
        case "asked":
            asked = message.asked
            return Asked(
                asked.number,
                params_from_proto(asked.params),
                asked.seed,
                asked.num_seen,
                asked.seen_seq,
                asked.sampler,
                asked.is_enqueued,
            )
        case "started":
            return Started(message.started.number, message.started.run_id)
        case "promoted":
            promoted = message.promoted
            return Promoted(promoted.number, promoted.rung, promoted.until_step)
        case "pruned":
            pruned = message.pruned
            return Pruned(pruned.number, pruned.step, pruned.value, pruned.reason)
        case "told":
            return _told(message.told)
        case "enqueued":
            return Enqueued(tuple(params_from_proto(p.params) for p in message.enqueued.points))
        case "budget_changed":
            return BudgetChanged(budget_from_proto(message.budget_changed.budget))
        case "paused":
            return Paused(message.paused.reason)
        case "resumed":
            return Resumed()
        case "stopping":
            return Stopping(message.stopping.with_trials, message.stopping.reason)
        case "ended":
            state = enum_from_proto(SearchState, message.ended.state)
            return Ended(state or SearchState.FAILED, message.ended.reason)
        case _:
            raise ValueError(f"entry {message.seq} is of a kind that this server does not know")


def _taken_to_proto(taken: Taken) -> search_pb2.TakenTrial:
    return pb.TakenTrial(
        search_id=taken.search_id,
        run_id=taken.run_id,
        params=params_to_proto(taken.params),
        value=taken.value,
    )


def _taken(taken: search_pb2.TakenTrial) -> Taken:
    return Taken(taken.search_id, taken.run_id, params_from_proto(taken.params), taken.value)


def _told(told: search_pb2.TrialTold) -> Told:
    return Told(
        told.number,
        told.rung,
        enum_from_proto(TrialState, told.state) or TrialState.FAILED,
        told.value if told.HasField("value") else None,
        told.step,
        told.run_seq,
        told.reason,
    )
