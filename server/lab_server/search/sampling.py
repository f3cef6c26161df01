"""Proposals: which values a trial tries. A function of the search's log alone.

Optuna is the engine and keeps nothing: for each proposal a study in memory is built from the log, with a
fresh sampler that is seeded by the search and the trial. It is imported where it is used: it takes a
fifth of a second, which the server's start does without.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from lab_core.configs import PlainValue
from lab_server.model.domain import Anything, Choice, Domain, FloatRange, IntRange
from lab_server.model.search import Sampler, SearchSpec, TrialState
from lab_server.search import grid
from lab_server.search.fold import Search, Trial
from lab_server.search.seeds import trial_seed
from lab_server.search.window import best_and_latest

_STARTUP_TRIALS = 10
_WORST = (TrialState.FAILED, TrialState.INFEASIBLE)


def propose(search: Search, number: int, num_seen: int) -> tuple[dict[str, PlainValue], str]:
    """Return the values of a trial, and what proposed them, with its version.

    Args:
        search: as its log tells.
        number: the trial's; it is the next.
        num_seen: of trials from this number on only the values are known, not what they came to.
    """
    spec = search.spec
    if spec.sampler is Sampler.GRID:
        return grid.point(spec.space, search.num_drawn), "grid"
    if spec.sampler is Sampler.QUASI_RANDOM:
        return _sobol(spec, search.num_drawn)
    return _ask_optuna(search, trial_seed(spec.seed, number), num_seen)


def importances(search: Search) -> dict[str, float]:
    """Return by item how much of the values' variance it explains; empty with fewer than 4 values.

    PED-ANOVA: Watanabe, Bansal and Hutter (IJCAI 2023).
    """
    optuna = _optuna()
    study = optuna.create_study(direction=search.spec.objective.direction.value.lower())
    distributions = _distributions(search.spec)
    done = [t for t in search.trials if t.state is TrialState.COMPLETED and t.value is not None]
    if len(done) < 4 or len({trial.value for trial in done}) < 2:
        return {}
    for trial in done:
        study.add_trial(_frozen(search, trial, distributions, is_known=True))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(found.get(key, 0.0)) for key in search.spec.space}


def _ask_optuna(search: Search, seed: int, num_seen: int) -> tuple[dict[str, PlainValue], str]:
    optuna = _optuna()
    spec = search.spec
    name = spec.sampler.value.lower()
    seed %= 2**32  # numpy's limit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = (
            optuna.samplers.TPESampler(
                seed=seed,
                multivariate=True,
                constant_liar=True,
                n_startup_trials=_STARTUP_TRIALS,
            )
            if spec.sampler is Sampler.TPE
            else optuna.samplers.RandomSampler(seed=seed)
        )
    study = optuna.create_study(direction=spec.objective.direction.value.lower(), sampler=sampler)
    distributions = _distributions(spec)
    if spec.sampler is Sampler.TPE:
        for trial in _window(search, num_seen):
            study.add_trial(_frozen(search, trial, distributions, is_known=trial.number < num_seen))
    asked = study.ask(distributions)
    params = {key: _value(spec.space[key], asked.params[key]) for key in spec.space}
    return params, f"{name}, optuna {optuna.__version__}"


def _window(search: Search, num_seen: int) -> Sequence[Trial]:
    """Return the trials to learn from: those whose configs had their chance, the earliest first."""
    usable = search.earlier + [
        t for t in search.trials if t.state is not TrialState.LEFT_OUT or t.number >= num_seen
    ]
    return best_and_latest(
        usable, lambda t: search.rank_of(t) if t.number < num_seen else search.rank(None)
    )


def _frozen(
    search: Search, trial: Trial, distributions: Mapping[str, Any], *, is_known: bool
) -> Any:
    optuna = _optuna()
    states = optuna.trial.TrialState
    params = {key: _internal(search.spec.space[key], trial.params[key]) for key in distributions}
    state, value, intermediate = states.RUNNING, None, {}
    if is_known and trial.was_told:
        # Optuna's sampler does not see failed trials. One that was pruned without a value is the worst.
        state = states.PRUNED
        if trial.state is TrialState.COMPLETED:
            state, value = states.COMPLETE, trial.value
        elif trial.value is not None and trial.state not in _WORST:
            intermediate = {trial.step: trial.value}
    frozen: Any = optuna.trial.create_trial(
        params=params,
        distributions=dict(distributions),
        state=state,
        value=value,
        intermediate_values=intermediate,
    )
    return frozen


def _sobol(spec: SearchSpec, index: int) -> tuple[dict[str, PlainValue], str]:
    import scipy
    from scipy.stats import qmc

    engine = qmc.Sobol(len(spec.space), scramble=True, rng=spec.seed)
    if index:
        engine.fast_forward(index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a number that is no power of 2
        (unit,) = engine.random(1)
    params = {
        key: _at(domain, float(place))
        for (key, domain), place in zip(spec.space.items(), unit, strict=True)
    }
    return params, f"sobol, scipy {scipy.__version__}"


def _at(domain: Domain, place: float) -> PlainValue:
    """Return the value of a domain at a place from 0 to 1."""
    match domain:
        case Choice(values):
            return values[min(int(place * len(values)), len(values) - 1)]
        case IntRange(low, high, step, is_log):
            if is_log:
                raw = math.exp(math.log(low) + place * (math.log(high + 1) - math.log(low)))
                return min(max(int(raw), low), high)
            num = (high - low) // step + 1
            return low + step * min(int(place * num), num - 1)
        case FloatRange(low, high, step, is_log):
            if is_log:
                raw = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
                return min(max(raw, low), high)
            if step:
                num = int((high - low) / step + 1e-9) + 1
                # 0.1 * 3 is above 0.3
                return min(low + step * min(int(place * num), num - 1), high)
            return low + place * (high - low)
        case _:
            raise AssertionError(domain)


def _distributions(spec: SearchSpec) -> dict[str, Any]:
    return {key: _distribution(domain) for key, domain in spec.space.items()}


def _distribution(domain: Domain) -> Any:
    kinds = _optuna().distributions
    match domain:
        case Choice(values):
            # places, not values: to Optuna 1, 1.0 and True are one value
            return kinds.CategoricalDistribution(tuple(range(len(values))))
        case IntRange(low, high, step, is_log):
            return kinds.IntDistribution(low, low + (high - low) // step * step, is_log, step)
        case FloatRange(low, high, step, is_log):
            return kinds.FloatDistribution(low, high, is_log, step or None)
        case Anything():
            raise AssertionError("resolved when the search was created")


def _value(domain: Domain, internal: Any) -> PlainValue:
    value: PlainValue = domain.values[internal] if isinstance(domain, Choice) else internal
    return value


def _internal(domain: Domain, value: PlainValue) -> Any:
    if not isinstance(domain, Choice):
        return value
    return next(
        index
        for index, choice in enumerate(domain.values)
        if type(choice) is type(value) and choice == value
    )


def _optuna() -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
