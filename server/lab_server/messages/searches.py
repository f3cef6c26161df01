"""Searches and the entries of their logs: between the wire and the server's own classes."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lab_core.configs import PlainValue
from lab_rpc.v1 import config_pb2, search_pb2, search_service_pb2
from lab_server.messages import wire
from lab_server.messages.configs import (
    overrides_from_proto,
    run_order_from_proto,
    run_order_to_proto,
)
from lab_server.messages.runs import options_from_proto, options_to_proto
from lab_server.messages.values import timestamp, value_from_proto, value_to_proto
from lab_server.model.domain import Anything, Choice, Domain, FloatRange, IntRange
from lab_server.model.search import (
    Budget,
    Direction,
    Halving,
    MedianStopping,
    Objective,
    Reduction,
    Sampler,
    SearchRecord,
    SearchSpec,
    SearchState,
    SearchView,
    TrialState,
    TrialView,
)

pb = search_pb2
E = TypeVar("E", bound=enum.Enum)

DEFAULT_MEDIAN_TRIALS = 5


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request gets that leaves it open."""

    sampler: Sampler
    seed: int


def enum_from_proto(kind: type[E], number: int) -> E | None:
    """Return the member of an enum for a number of the wire, None for 0 or an unknown one."""
    of_wire = _OF_WIRE[kind]
    found = of_wire.DESCRIPTOR.values_by_number.get(number)
    return kind[found.name.removeprefix(_prefix(of_wire))] if found and number else None


def enum_to_proto(value: enum.Enum) -> Any:
    """Return the number of the wire for a member of an enum."""
    of_wire = _OF_WIRE[type(value)]
    return of_wire.Value(_prefix(of_wire) + value.name)


def params_from_proto(params: Mapping[str, config_pb2.Value]) -> dict[str, PlainValue]:
    """Return values by key, in the order of the keys: a map has none on the wire."""
    return {key: value_from_proto(params[key]) for key in sorted(params)}


def params_to_proto(params: Mapping[str, PlainValue]) -> dict[str, config_pb2.Value]:
    """Return values by key as messages."""
    return {key: value_to_proto(value) for key, value in params.items()}


def domain_from_proto(message: search_pb2.Domain) -> Domain:
    """Return what an item may be."""
    match message.WhichOneof("kind"):
        case "choice":
            return Choice(tuple(map(value_from_proto, message.choice.values)))
        case "float_range":
            wide = message.float_range
            return FloatRange(wide.low, wide.high, wide.step, wide.is_log)
        case "int_range":
            whole = message.int_range
            return IntRange(whole.low, whole.high, whole.step or 1, whole.is_log)
        case _:
            return Anything()


def domain_to_proto(domain: Domain) -> search_pb2.Domain:
    """Return what an item may be as a message."""
    match domain:
        case Choice(values):
            return pb.Domain(choice=config_pb2.ListValue(values=map(value_to_proto, values)))
        case FloatRange(low, high, step, is_log):
            return pb.Domain(
                float_range=pb.FloatRange(low=low, high=high, step=step, is_log=is_log)
            )
        case IntRange(low, high, step, is_log):
            return pb.Domain(int_range=pb.IntRange(low=low, high=high, step=step, is_log=is_log))
        case Anything():
            return pb.Domain()


def budget_from_proto(message: search_pb2.SearchBudget) -> Budget:
    """Return a budget."""
    return Budget(message.max_trials, message.max_steps, message.max_seconds, message.parallel or 1)


def budget_to_proto(budget: Budget) -> search_pb2.SearchBudget:
    """Return a budget as a message."""
    return pb.SearchBudget(
        max_trials=budget.max_trials,
        max_steps=budget.max_steps,
        max_seconds=budget.max_seconds,
        parallel=budget.parallel,
    )


def spec_from_proto(message: search_pb2.SearchSpec, defaults: Defaults) -> SearchSpec:
    """Return what a search was asked for.

    Args:
        message: checked before: its enums are known ones.
        defaults: what it gets where it says nothing.
    """
    objective = message.objective
    return SearchSpec(
        experiment=message.experiment,
        space={key: domain_from_proto(message.space[key]) for key in sorted(message.space)},
        objective=Objective(
            objective.metric,
            enum_from_proto(Direction, objective.direction) or Direction.MINIMIZE,
            enum_from_proto(Reduction, objective.reduction) or Reduction.LAST,
            objective.num_last,
        ),
        budget=budget_from_proto(message.budget),
        sampler=enum_from_proto(Sampler, message.sampler) or defaults.sampler,
        seed=message.seed if message.HasField("seed") else defaults.seed,
        is_lockstep=(
            message.mode == pb.SEARCH_MODE_LOCKSTEP
            or (not message.mode and message.HasField("seed"))
        ),
        early_stopping=_early_stopping(message),
        fixed=overrides_from_proto(message.config),
        run_order=run_order_from_proto(message.config),
        models=tuple(message.config.models),
        options=options_from_proto(message.options),
        name=message.name or message.experiment,
        tags=tuple(dict.fromkeys(message.tags)),
        notes=message.notes,
        warm_start=tuple(dict.fromkeys(message.warm_start)),
    )


def spec_to_proto(spec: SearchSpec) -> search_pb2.SearchSpec:
    """Return what a search was asked for as a message."""
    objective, halving, median = spec.objective, spec.halving, spec.median
    mode = pb.SEARCH_MODE_LOCKSTEP if spec.is_lockstep else pb.SEARCH_MODE_ASYNC
    return pb.SearchSpec(
        experiment=spec.experiment,
        space={key: domain_to_proto(domain) for key, domain in spec.space.items()},
        config=config_pb2.ConfigMessage(
            overrides=params_to_proto(spec.fixed),
            run_order=run_order_to_proto(spec.run_order),
            models=spec.models,
        ),
        objective=pb.Objective(
            metric=objective.metric,
            direction=enum_to_proto(objective.direction),
            reduction=enum_to_proto(objective.reduction),
            num_last=objective.num_last,
        ),
        sampler=enum_to_proto(spec.sampler),
        budget=budget_to_proto(spec.budget),
        seed=spec.seed,
        mode=mode,
        halving=pb.Halving(min_steps=halving.min_steps, eta=halving.eta) if halving else None,
        median_stopping=(
            pb.MedianStopping(
                interval_steps=median.interval_steps,
                warmup_steps=median.warmup_steps,
                min_trials=median.min_trials,
            )
            if median
            else None
        ),
        options=options_to_proto(spec.options),
        name=spec.name,
        tags=spec.tags,
        notes=spec.notes,
        warm_start=spec.warm_start,
    )


def trial_to_proto(trial: TrialView) -> search_pb2.Trial:
    """Return a trial as a message."""
    return pb.Trial(
        number=trial.number,
        params=params_to_proto(trial.params),
        state=enum_to_proto(trial.state),
        rung=trial.rung,
        value=trial.value,
        step=trial.step,
        run_id=trial.run_id,
        reason=wire.text_of(trial.reason),
        seed=trial.seed,
    )


def search_to_proto(view: SearchView) -> search_pb2.Search:
    """Return a search as a message."""
    return pb.Search(
        id=view.id,
        spec=spec_to_proto(view.spec),
        owner=view.owner,
        state=enum_to_proto(view.state),
        reason=wire.text_of(view.reason),
        trials=[
            pb.TrialCount(state=enum_to_proto(state), count=view.counts[state])
            for state in TrialState
            if view.counts.get(state)
        ],
        best=trial_to_proto(view.best) if view.best else None,
        num_steps=view.num_steps,
        create_time=timestamp(view.create_time_ns),
        end_time=timestamp(view.end_time_ns),
        last_seq=view.last_seq,
        num_taken_over=view.num_taken_over,
    )


def record_of(view: SearchView) -> SearchRecord:
    """Return a search's row in the store."""
    return SearchRecord(
        view.id,
        view.spec.experiment,
        view.owner,
        view.state,
        view.create_time_ns,
        view.last_seq,
        search_to_proto(view).SerializeToString(),
    )


def search_of(record: SearchRecord) -> search_pb2.Search:
    """Return the message of a search as its row has it."""
    return pb.Search.FromString(record.summary)


def fingerprint(message: search_service_pb2.CreateSearchRequest) -> str:
    """Return a hash that only the same request has, whatever its idempotency key."""
    encoded = message.spec.SerializeToString(deterministic=True)
    return hashlib.sha256(encoded).hexdigest()


def states_from_proto(numbers: Iterable[int]) -> frozenset[SearchState]:
    """Return the states of searches that are known by these numbers."""
    found = (enum_from_proto(SearchState, number) for number in numbers)
    return frozenset(state for state in found if state is not None)


def _early_stopping(message: search_pb2.SearchSpec) -> Halving | MedianStopping | None:
    match message.WhichOneof("early_stopping"):
        case "halving":
            return Halving(message.halving.min_steps, message.halving.eta)
        case "median_stopping":
            median = message.median_stopping
            return MedianStopping(
                median.interval_steps,
                median.warmup_steps,
                median.min_trials or DEFAULT_MEDIAN_TRIALS,
            )
        case _:
            return None


def _prefix(of_wire: Any) -> str:
    # SEARCH_STATE_UNSPECIFIED gives SEARCH_STATE_
    return str(of_wire.DESCRIPTOR.values_by_number[0].name.removesuffix("UNSPECIFIED"))


_OF_WIRE: Mapping[type[enum.Enum], Any] = {
    Direction: pb.Direction,
    Reduction: pb.Reduction,
    Sampler: pb.Sampler,
    SearchState: pb.SearchState,
    TrialState: pb.TrialState,
}
