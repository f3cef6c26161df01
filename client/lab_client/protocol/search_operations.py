"""Every call about searches as a value; see `operations`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from google.protobuf.field_mask_pb2 import FieldMask

from lab_client.configs import RunOrder
from lab_client.errors import ConfigError, InvalidRequest, Violation
from lab_client.protocol import config_convert, run_convert, search_convert
from lab_client.protocol.calls import Operation, as_texts
from lab_client.protocol.pages import Page, Pages
from lab_client.protocol.search_convert import REDUCTIONS, SAMPLERS, to_enum
from lab_client.runs import RunOptions
from lab_client.searches import (
    Anything,
    Choice,
    Domain,
    Halving,
    IntRange,
    MedianStopping,
    SearchInfo,
    SearchState,
    Trial,
    Uniform,
)
from lab_client.uploads.bundle import refuse_code
from lab_rpc.v1 import search_pb2
from lab_rpc.v1 import search_service_pb2 as pb

Space = Mapping[str, Domain | object]
_DOMAINS = (Choice, Uniform, IntRange, Anything)


class HasId(Protocol):
    """A handle to a search or a run."""

    @property
    def id(self) -> str:
        """Its id."""


Sources: TypeAlias = str | HasId | Iterable[str | HasId]


def _search(response: Any) -> SearchInfo:
    return search_convert.search(response.search, tuple(getattr(response, "warnings", ())))


def create_search(
    experiment: str,
    space: Space,
    *,
    maximize: str = "",
    minimize: str = "",
    max_trials: int | None = None,
    parallel: int = 1,
    sampler: str = "",
    seed: int | None = None,
    lockstep: bool | None = None,
    halving: Halving | None = None,
    median_stopping: MedianStopping | None = None,
    max_steps: int = 0,
    max_seconds: float = 0.0,
    reduction: str = "last",
    num_last: int = 0,
    run_order: RunOrder | None = None,
    models: Iterable[str] | None = None,
    name: str = "",
    tags: Iterable[str] = (),
    notes: str = "",
    options: RunOptions | None = None,
    warm_start: Sources = (),
    idempotency_key: str | None = None,
) -> Operation[SearchInfo]:
    """Create a search; the key makes it safe to send again, so there always is one."""
    refuse_code(experiment)
    config_convert.check_overrides(space)
    searched = {key: value for key, value in space.items() if isinstance(value, _DOMAINS)}
    fixed = {key: value for key, value in space.items() if key not in searched}
    if bool(maximize) == bool(minimize):
        sentence = "say what to look for: maximize=METRIC or minimize=METRIC, one of them"
        raise InvalidRequest([Violation("objective", sentence)])
    if halving is not None and median_stopping is not None:
        sentence = "give halving or median_stopping, not both"
        raise InvalidRequest([Violation("early_stopping", sentence)])
    direction = search_pb2.DIRECTION_MAXIMIZE if maximize else search_pb2.DIRECTION_MINIMIZE
    try:
        spec = search_pb2.SearchSpec(
            experiment=experiment,
            space={key: search_convert.to_domain(key, value) for key, value in searched.items()},
            config=config_convert.to_config(fixed, run_order, models),
            objective=search_pb2.Objective(
                metric=maximize or minimize,
                direction=direction,
                reduction=to_enum("reduction", "REDUCTION", reduction, REDUCTIONS),
                num_last=num_last,
            ),
            sampler=_sampler(sampler),
            budget=search_pb2.SearchBudget(
                max_trials=_whole_number("max_trials", max_trials),
                max_steps=max_steps,
                max_seconds=max_seconds,
                parallel=_whole_number("parallel", parallel),
            ),
            seed=seed,
            mode=_mode(lockstep),
            options=None if options is None else run_convert.to_run_options(options),
            name=name,
            tags=as_texts(tags),
            notes=notes,
            warm_start=_ids(warm_start),
        )
        if halving is not None:
            spec.halving.CopyFrom(search_pb2.Halving(min_steps=halving.min_steps, eta=halving.eta))
        if median_stopping is not None:
            spec.median_stopping.CopyFrom(
                search_pb2.MedianStopping(
                    interval_steps=median_stopping.interval_steps,
                    warmup_steps=median_stopping.warmup_steps,
                    min_trials=median_stopping.min_trials,
                )
            )
    except (TypeError, ValueError) as error:  # a negative number where there is none, say
        raise ConfigError([Violation("", f"the search cannot be sent: {error}")]) from None
    return Operation(
        "CreateSearch",
        lambda: pb.CreateSearchRequest(
            spec=spec, idempotency_key=idempotency_key or os.urandom(16).hex()
        ),
        _search,
    )


def get_search(search_id: str) -> Operation[SearchInfo]:
    """Ask for a search, by its id or a prefix that only it has."""
    return Operation("GetSearch", lambda: pb.GetSearchRequest(search_id=search_id), _search)


def importances(search_id: str) -> Operation[dict[str, float]]:
    """Ask how much each item matters, the most important first."""
    return Operation(
        "GetSearch",
        lambda: pb.GetSearchRequest(search_id=search_id, with_importances=True),
        lambda answer: dict(sorted(answer.importances.items(), key=lambda item: -item[1])),
    )


def list_searches(
    *,
    experiment: str = "",
    states: Iterable[SearchState | str] = (),
    limit: int | None = None,
) -> Pages[SearchInfo]:
    """Ask for the searches for which all filters hold."""
    names = [states] if isinstance(states, str) else list(states)
    known = tuple(state.lower() for state in SearchState)
    numbers = [to_enum("states", "SEARCH_STATE", str(n).lower(), known) for n in names]

    def ask(token: str, size: int) -> Operation[Page[SearchInfo]]:
        return Operation(
            "ListSearches",
            lambda: pb.ListSearchesRequest(
                experiment=experiment, states=numbers, page_size=size, page_token=token
            ),
            _search_page,
        )

    return Pages(ask, limit)


def _search_page(answer: pb.ListSearchesResponse) -> Page[SearchInfo]:
    return Page(tuple(map(search_convert.search, answer.searches)), answer.next_page_token)


def list_trials(search_id: str) -> Pages[Trial]:
    """Ask for a search's trials, by number; as many a page as the server likes to send."""

    def ask(token: str, _size: int) -> Operation[Page[Trial]]:
        return Operation(
            "ListTrials",
            lambda: pb.ListTrialsRequest(search_id=search_id, first_number=int(token or 0)),
            _trial_page,
        )

    return Pages(ask)


def _trial_page(answer: pb.ListTrialsResponse) -> Page[Trial]:
    token = str(answer.next_number) if answer.HasField("next_number") else ""
    return Page(tuple(map(search_convert.trial, answer.trials)), token)


def set_paused(search_id: str, is_paused: bool) -> Operation[SearchInfo]:
    """Pause a search, or let it go on."""
    return Operation(
        "UpdateSearch",
        lambda: pb.UpdateSearchRequest(
            search_id=search_id, paused=is_paused, update_mask=FieldMask(paths=["paused"])
        ),
        _search,
    )


def extend(
    search_id: str,
    max_trials: int | None = None,
    *,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    parallel: int | None = None,
) -> Operation[SearchInfo]:
    """Change a search's budget; what is None stays."""
    changes: dict[str, Any] = {
        "max_trials": max_trials,
        "max_steps": max_steps,
        "max_seconds": max_seconds,
        "parallel": parallel,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if not changes:
        sentence = "nothing to change: give max_trials, max_steps, max_seconds or parallel"
        raise InvalidRequest([Violation("", sentence)])
    mask = FieldMask(paths=[f"budget.{name}" for name in sorted(changes)])
    return Operation(
        "UpdateSearch",
        lambda: pb.UpdateSearchRequest(
            search_id=search_id, budget=search_pb2.SearchBudget(**changes), update_mask=mask
        ),
        _search,
    )


def stop_search(search_id: str, *, with_trials: bool) -> Operation[SearchInfo]:
    """Ask a search to stop."""
    return Operation(
        "StopSearch",
        lambda: pb.StopSearchRequest(search_id=search_id, with_trials=with_trials),
        _search,
    )


def enqueue(search_id: str, points: Iterable[Mapping[str, object]]) -> Operation[SearchInfo]:
    """Put points in front. Not sent twice: they would be there twice."""
    return Operation(
        "EnqueueTrials",
        lambda: pb.EnqueueTrialsRequest(
            search_id=search_id, points=[search_convert.to_point(point) for point in points]
        ),
        _search,
        is_safe=False,
    )


def delete_search(search_id: str) -> Operation[None]:
    """Delete a search. Not sent twice: a second answer would be that there is none."""
    return Operation(
        "DeleteSearch",
        lambda: pb.DeleteSearchRequest(search_id=search_id),
        lambda _: None,
        is_safe=False,
    )


def _ids(sources: Sources) -> list[str]:
    """Return the ids of searches and runs, given as such or as handles; one alone need not be in a list."""
    several = (
        sources if not isinstance(sources, str) and isinstance(sources, Iterable) else [sources]
    )
    found = [getattr(one, "id", one) for one in several]
    wrong = [one for one in found if not isinstance(one, str)]
    if wrong:
        sentence = f"warm_start takes searches, runs and their ids, got {wrong[0]!r}"
        raise InvalidRequest([Violation("warm_start", sentence)])
    return [str(one) for one in found]


def _sampler(name: str) -> search_pb2.Sampler.ValueType:
    if not name:
        return search_pb2.SAMPLER_UNSPECIFIED
    number: search_pb2.Sampler.ValueType = to_enum("sampler", "SAMPLER", name, SAMPLERS)
    return number


def _mode(lockstep: bool | None) -> search_pb2.SearchMode.ValueType:
    if lockstep is None:
        return search_pb2.SEARCH_MODE_UNSPECIFIED
    return search_pb2.SEARCH_MODE_LOCKSTEP if lockstep else search_pb2.SEARCH_MODE_ASYNC


def _whole_number(field: str, value: int | None) -> int:
    """Return a number that was given; 0 on the wire is one that was not."""
    if value is None:
        return 0
    if value < 1:
        raise InvalidRequest([Violation(field, f"{field} must be at least 1, got {value}")])
    return value
