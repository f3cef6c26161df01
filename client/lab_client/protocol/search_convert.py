"""Where proto messages of searches meet domain values, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lab_client import searches
from lab_client.errors import ConfigError, IncompatibleServer, Violation
from lab_client.protocol import config_convert, run_convert
from lab_rpc.v1 import config_pb2, search_pb2

SAMPLERS = ("grid", "random", "quasi_random", "tpe")
REDUCTIONS = ("last", "best", "mean")
_NS = 1_000_000_000


def to_domain(key: str, domain: searches.Domain) -> search_pb2.Domain:
    """Build what an item may be; what cannot travel is a ConfigError."""
    try:
        match domain:
            case searches.Choice(values):
                found = [config_convert.to_value(value) for value in values]
                return search_pb2.Domain(choice=config_pb2.ListValue(values=found))
            case searches.Uniform(low, high, step, is_log):
                floats = search_pb2.FloatRange(low=low, high=high, step=step, is_log=is_log)
                return search_pb2.Domain(float_range=floats)
            case searches.IntRange(low, high, step, is_log):
                ints = search_pb2.IntRange(low=low, high=high, step=step, is_log=is_log)
                return search_pb2.Domain(int_range=ints)
            case searches.Anything():
                return search_pb2.Domain()
    except (TypeError, ValueError) as error:
        raise ConfigError([Violation(key, f"{key}: {error}")]) from None


def to_enum(field: str, prefix: str, name: str, known: tuple[str, ...]) -> Any:
    """Return the number of a name.

    Raises:
        ConfigError: if there is no such name.
    """
    if name not in known:
        sentence = f"{field} must be one of {', '.join(known)}, got {name!r}"
        raise ConfigError([Violation(field, sentence)])
    return getattr(search_pb2, f"{prefix}_{name.upper()}")


def to_point(point: Mapping[str, object]) -> search_pb2.Point:
    """Build a point."""
    return search_pb2.Point(params=dict(config_convert.to_config(point).overrides))


# From the wire.


def search(message: search_pb2.Search, warnings: tuple[str, ...] = ()) -> searches.SearchInfo:
    """Return a search as the server knows it."""
    spec = message.spec
    objective = spec.objective
    return searches.SearchInfo(
        id=message.id,
        experiment=spec.experiment,
        name=spec.name,
        space={key: domain(spec.space[key]) for key in sorted(spec.space)},
        overrides=_params(spec.config.overrides),
        metric=objective.metric,
        is_maximized=objective.direction == search_pb2.DIRECTION_MAXIMIZE,
        reduction=_name(search_pb2.Reduction, objective.reduction).lower(),
        num_last=objective.num_last,
        sampler=_name(search_pb2.Sampler, spec.sampler).lower(),
        budget=budget(spec.budget),
        seed=spec.seed,
        is_lockstep=spec.mode == search_pb2.SEARCH_MODE_LOCKSTEP,
        early_stopping=_early_stopping(spec),
        options=run_convert.run_options(spec.options),
        tags=tuple(spec.tags),
        notes=spec.notes,
        owner=message.owner,
        state=searches.SearchState(_name(search_pb2.SearchState, message.state)),
        reason=message.reason,
        counts={_trial_state(item.state): item.count for item in message.trials},
        best=trial(message.best) if message.HasField("best") else None,
        num_steps=message.num_steps,
        create_time=message.create_time.ToDatetime(UTC)
        if message.HasField("create_time")
        else None,
        end_time=message.end_time.ToDatetime(UTC) if message.HasField("end_time") else None,
        last_seq=message.last_seq,
        warm_start=tuple(spec.warm_start),
        num_taken_over=message.num_taken_over,
        warnings=warnings,
    )


def domain(message: search_pb2.Domain) -> searches.Domain:
    """Return what an item may be."""
    match message.WhichOneof("kind"):
        case "choice":
            return searches.Choice(tuple(map(config_convert.value, message.choice.values)))
        case "float_range":
            floats = message.float_range
            return searches.Uniform(floats.low, floats.high, floats.step, floats.is_log)
        case "int_range":
            ints = message.int_range
            return searches.IntRange(ints.low, ints.high, ints.step or 1, ints.is_log)
        case _:
            return searches.Anything()


def budget(message: search_pb2.SearchBudget) -> searches.Budget:
    """Return a budget."""
    return searches.Budget(
        message.max_trials, message.max_steps, message.max_seconds, message.parallel or 1
    )


def trial(message: search_pb2.Trial) -> searches.Trial:
    """Return a trial."""
    return searches.Trial(
        number=message.number,
        params=_params(message.params),
        state=_trial_state(message.state),
        rung=message.rung,
        value=message.value if message.HasField("value") else None,
        step=message.step,
        run_id=message.run_id,
        reason=message.reason,
        seed=message.seed,
    )


def entry(message: search_pb2.SearchEntry) -> searches.SearchEntry:
    """Return an entry of a search's log; a kind of a newer server has no name."""
    kind = message.WhichOneof("kind") or ""
    body: Any = getattr(message, kind) if kind else None
    known = {field.name for field in body.DESCRIPTOR.fields} if body is not None else set()
    values: dict[str, Any] = {name: getattr(body, name) for name in _PLAIN if name in known}
    if "number" in known:
        values["trial"] = body.number
    if "params" in known:
        values["params"] = _params(body.params)
    if "points" in known:
        values["points"] = tuple(_params(point.params) for point in body.points)
    if kind == "taken_over":
        values["taken"] = tuple(
            searches.TakenTrial(one.search_id, one.run_id, _params(one.params), one.value)
            for one in body.trials
        )
    if "budget" in known:
        values["budget"] = budget(body.budget)
    if kind == "told":
        values["state"] = _trial_state(body.state)
    if kind == "ended":
        values["state"] = searches.SearchState(_name(search_pb2.SearchState, body.state))
    if kind == "pruned" or (kind == "told" and body.HasField("value")):
        values["value"] = body.value
    time = datetime.fromtimestamp(message.time_unix_ns / _NS, UTC)
    return searches.SearchEntry(seq=message.seq, time=time, kind=kind, **values)


_PLAIN = ("run_id", "rung", "until_step", "step", "reason")


def _params(params: Any) -> dict[str, Any]:
    return {key: config_convert.value(params[key]) for key in sorted(params)}


def _early_stopping(
    spec: search_pb2.SearchSpec,
) -> searches.Halving | searches.MedianStopping | None:
    match spec.WhichOneof("early_stopping"):
        case "halving":
            return searches.Halving(spec.halving.min_steps, spec.halving.eta)
        case "median_stopping":
            median = spec.median_stopping
            return searches.MedianStopping(
                median.interval_steps, median.warmup_steps, median.min_trials
            )
        case _:
            return None


def _trial_state(number: int) -> searches.TrialState:
    return searches.TrialState(_name(search_pb2.TrialState, number))


def _name(kind: Any, number: int) -> str:
    """Return the name of a number of an enum, without the enum's own name before it."""
    names = kind.DESCRIPTOR.values_by_number
    if number not in names or not number:
        raise IncompatibleServer(
            f"the server sends a {kind.DESCRIPTOR.name} that this client does not know ({number});"
            " update the client"
        )
    prefix = names[0].name.removesuffix("UNSPECIFIED")
    return str(names[number].name.removeprefix(prefix))
