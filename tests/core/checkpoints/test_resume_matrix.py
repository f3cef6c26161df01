"""Every scheduler, run order, loader and place of a stop: resumed, it is the run that nobody stopped."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from lab_core import loop

from . import trainings
from .trainings import NUM_STEPS, RUN_ORDERS, SCHEDULERS, STEPS_PER_EPOCH, make, train

INSIDE = 2 * STEPS_PER_EPOCH + 3
AT_END = 2 * STEPS_PER_EPOCH
LOADERS = ("resident", "data_set", "plain", "plain_workers")
OPTIMIZERS = ("sgd", "adam")

# a scheduler first read after the first step is one of the cases
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),
]

Case = tuple[str, str, str, str, int]

# each scheduler and each loader with all the rest; their product is for the exhaustive matrix
QUICK: list[Case] = [
    *itertools.product(SCHEDULERS, ["resident"], ["sgd"], RUN_ORDERS, [INSIDE, AT_END]),
    *itertools.product(["one_cycle"], LOADERS[1:], ["adam"], RUN_ORDERS, [INSIDE, AT_END]),
]
FULL: list[Case] = [
    case
    for case in itertools.product(
        SCHEDULERS, LOADERS, OPTIMIZERS, RUN_ORDERS, [1, INSIDE, AT_END, NUM_STEPS]
    )
    if case not in QUICK
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what a run that nobody stopped becomes; each is trained once."""
    known: dict[tuple[str, ...], dict[str, Any]] = {}

    def look_up(scheduler: str, loader: str, optimizer: str, order: str) -> dict[str, Any]:
        key = (scheduler, loader, optimizer, order)
        if key not in known:
            trainings.scramble()
            folder = tmp_path_factory.mktemp("undisturbed")
            known[key] = train(*make(folder, overrides(*key[:3]), RUN_ORDERS[order]))
        return known[key]

    return look_up


def overrides(scheduler: str, loader: str, optimizer: str) -> dict[str, Any]:
    return {"scheduler": scheduler, "train_loader": loader, "optimizer": optimizer}


def check(case: Case, undisturbed: Any, folder: Path) -> None:
    scheduler, loader, optimizer, order, step = case
    given = overrides(scheduler, loader, optimizer)
    trainings.scramble()
    stopped, conf = make(
        folder,
        {**given, "after_step": lambda at: loop.request_stop() if at == step else None},
        RUN_ORDERS[order],
    )
    train(stopped, conf)
    is_plain = loader.startswith("plain")
    # a plain loader's run stops between epochs only, as the docs say
    epochs = -(-step // STEPS_PER_EPOCH)
    assert stopped.loop.step == (epochs * STEPS_PER_EPOCH if is_plain else step)

    trainings.scramble()
    # as a service does it; a script that loads later has seeded first
    resumed, conf = make(folder, given, RUN_ORDERS[order], before=lambda run: run.resume())
    assert train(resumed, conf) == undisturbed(scheduler, loader, optimizer, order)
    assert resumed.record.status == "completed"


@pytest.mark.parametrize("case", QUICK, ids=lambda case: "-".join(map(str, case)))
def test_a_resumed_run_is_the_one_that_nobody_stopped(
    case: Case, undisturbed: Any, tmp_path: Path
) -> None:
    check(case, undisturbed, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_resumed_run_is_the_one_that_nobody_stopped_in_every_combination(
    scheduler: str, undisturbed: Any, tmp_path: Path
) -> None:
    for i, case in enumerate(case for case in FULL if case[0] == scheduler):
        check(case, undisturbed, tmp_path / str(i))


@pytest.mark.parametrize("order", RUN_ORDERS)
def test_a_checkpoint_loaded_after_the_configs_goes_on_exactly_too(
    order: str, undisturbed: Any, tmp_path: Path
) -> None:
    given = overrides("linear", "resident", "adam")
    stopped, conf = make(
        tmp_path,
        {**given, "after_step": lambda at: loop.request_stop() if at == INSIDE else None},
        RUN_ORDERS[order],
    )
    train(stopped, conf)
    trainings.scramble()
    resumed, conf = make(tmp_path, given, RUN_ORDERS[order])
    resumed.resume()
    assert train(resumed, conf) == undisturbed("linear", "resident", "adam", order)
