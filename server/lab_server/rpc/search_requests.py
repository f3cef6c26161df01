"""What a request about searches may contain, as far as no experiment's schema is needed to tell."""

from __future__ import annotations

from collections.abc import Iterable

from lab_rpc.v1 import search_pb2, search_service_pb2
from lab_server.errors import NotFound
from lab_server.messages.searches import enum_from_proto
from lab_server.model.search import Direction, Reduction, Sampler, SearchState
from lab_server.rpc.requests import (
    INT64_MAX,
    MAX_KEY_CHARS,
    MAX_NAME_CHARS,
    MAX_NOTES_CHARS,
    Checks,
    check_config,
    check_options,
    check_run_id,
    check_tags,
)
from lab_server.search.space import MAX_TRIALS

MAX_PARALLEL = 1000
MAX_ITEMS = 100
MAX_POINTS = 1000
MAX_SOURCES = 10
_BUDGET_PATHS = ("max_trials", "max_steps", "max_seconds", "parallel")
UPDATE_PATHS = ("paused", *(f"budget.{name}" for name in _BUDGET_PATHS))


def check_search_id(search_id: str) -> str:
    """Check that a text may be a search's id or a prefix of one, and return it.

    Raises:
        InvalidRequest: If it is empty.
        NotFound: If no search can have such an id.
    """
    try:
        return check_run_id(search_id, "search_id")
    except NotFound:
        raise NotFound("search", search_id[:100]) from None


def check_spec(checks: Checks, spec: search_pb2.SearchSpec, devices: Iterable[str]) -> None:
    """Check what a search is asked for, but for what its experiment's schema says."""
    if not spec.space:
        checks.add("space", "the space is empty: say which items to search, and what they may be")
    checks.between("space", len(spec.space), 0, MAX_ITEMS)
    for key in spec.space:
        checks.text("space", key, MAX_KEY_CHARS)
    _check_objective(checks, spec.objective)
    if spec.sampler and enum_from_proto(Sampler, spec.sampler) is None:
        checks.add("sampler", f"{spec.sampler} is not a sampler")
    if spec.mode not in search_pb2.SearchMode.values():
        checks.add("mode", f"{spec.mode} is not a mode")
    check_budget(checks, spec.budget, is_grid=may_be_grid(spec))
    _check_early_stopping(checks, spec)
    check_config(checks, spec.config)
    check_options(checks, spec.options, sorted(set(devices)))
    checks.text("name", spec.name, MAX_NAME_CHARS - len(f"-{MAX_TRIALS}"))
    check_tags(checks, spec.tags)
    checks.text("notes", spec.notes, MAX_NOTES_CHARS, lines=True)
    if spec.seed >= 2**53:
        checks.add("seed", f"seed must be below 2**53, got {spec.seed}")
    checks.between("warm_start", len(spec.warm_start), 0, MAX_SOURCES)
    if spec.warm_start and spec.sampler not in (
        search_pb2.SAMPLER_UNSPECIFIED,
        search_pb2.SAMPLER_TPE,
    ):
        checks.add("warm_start", "only the sampler TPE learns from earlier searches and runs")


NO_END = (
    "say how many trials to make, by max_trials or --trials: only a grid, of which each item is a list, "
    "has an end"
)


def check_budget(checks: Checks, budget: search_pb2.SearchBudget, *, is_grid: bool) -> None:
    """Check a budget; only a grid may leave open how many trials there are."""
    if budget.max_trials or is_grid:
        checks.between("budget.max_trials", budget.max_trials, 0, MAX_TRIALS)
    else:
        checks.add("budget.max_trials", NO_END)
    checks.between("budget.max_steps", budget.max_steps, 0, INT64_MAX)
    checks.seconds("budget.max_seconds", budget.max_seconds)
    checks.between("budget.parallel", budget.parallel, 0, MAX_PARALLEL)


def check_update(message: search_service_pb2.UpdateSearchRequest) -> frozenset[str]:
    """Return what to change.

    Raises:
        InvalidRequest: If the mask names nothing or something else, or a value is invalid.
    """
    checks = Checks()
    paths = frozenset(message.update_mask.paths)
    if not paths:
        checks.add(
            "update_mask", f"update_mask must name what to change: {', '.join(UPDATE_PATHS)}"
        )
    for path in sorted(paths - set(UPDATE_PATHS))[:10]:
        checks.add(
            "update_mask", f"only {', '.join(UPDATE_PATHS)} can be changed, not {path[:100]!r}"
        )
    check_budget(checks, message.budget, is_grid="budget.max_trials" not in paths)
    if "budget.parallel" in paths and not message.budget.parallel:
        checks.add("budget.parallel", "budget.parallel must be at least 1, got 0")
    checks.raise_if_any()
    return paths


def check_states(checks: Checks, states: Iterable[int]) -> None:
    """Check states to filter by."""
    for state in list(states)[:10]:
        if enum_from_proto(SearchState, state) is None:
            checks.add("states", f"{state} is not a state of a search")


def may_be_grid(spec: search_pb2.SearchSpec) -> bool:
    """Return whether a search may turn out to be a grid, which has an end of its own."""
    if spec.sampler:
        return spec.sampler == search_pb2.SAMPLER_GRID
    if spec.warm_start:
        return False
    return all(domain.WhichOneof("kind") in ("choice", None) for domain in spec.space.values())


def _check_objective(checks: Checks, objective: search_pb2.Objective) -> None:
    checks.text("objective.metric", objective.metric, MAX_KEY_CHARS, is_needed=True)
    if set(objective.metric) & set("*?"):
        checks.add(
            "objective.metric",
            f"objective.metric is the whole name of one metric, without wildcards, got {objective.metric!r}",
        )
    if enum_from_proto(Direction, objective.direction) is None:
        checks.add("objective.direction", "objective.direction must be MINIMIZE or MAXIMIZE")
    reduction = objective.reduction
    if reduction and enum_from_proto(Reduction, reduction) is None:
        checks.add("objective.reduction", f"{reduction} is not a reduction")
    if reduction == search_pb2.REDUCTION_MEAN:
        checks.between("objective.num_last", objective.num_last, 1, 1_000_000)
    elif objective.num_last:
        checks.add(
            "objective.num_last", "objective.num_last is for the mean of the last values only"
        )


def _check_early_stopping(checks: Checks, spec: search_pb2.SearchSpec) -> None:
    match spec.WhichOneof("early_stopping"):
        case "halving":
            checks.between("halving.min_steps", spec.halving.min_steps, 1, 2**40)
            checks.between("halving.eta", spec.halving.eta, 2, 1000)
        case "median_stopping":
            median = spec.median_stopping
            checks.between("median_stopping.interval_steps", median.interval_steps, 1, 2**40)
            checks.between("median_stopping.warmup_steps", median.warmup_steps, 0, 2**40)
            checks.between("median_stopping.min_trials", median.min_trials, 0, MAX_TRIALS)
        case _:
            pass
