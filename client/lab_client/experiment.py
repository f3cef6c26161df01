"""lab's experiment module, for experiments that train on a server.

A script for `lab_core` becomes a remote one by giving the experiment's name for its configs:

Example:
    >>> from lab_client import experiment
    >>> experiment.connect("localhost:50051")
    >>> def train(hparams):
    ...     experiment.create(name="mnist_tuning", writers={"sqlite", "tensorboard"})
    ...     experiment.calculate_configs("mnist", hparams, ["set_seed", "main"])
    ...     experiment.add_pytorch_models({"model"})
    ...     return experiment.start()  # returns as soon as it is queued
    >>> run = train({"dataset": "mnist_5k", "conv1_kernal": 3})  # doctest: +SKIP

What `create` and the others collect belongs to the thread; the connection belongs to the process.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lab_client.configs import Plan, RunOrder
from lab_client.errors import InvalidState
from lab_client.protocol.signatures import parameters_of
from lab_client.runs import RunOptions
from lab_client.sync.client import Client
from lab_client.sync.run import Run
from lab_client.sync.search import Search

__all__ = [
    "add_pytorch_models",
    "calculate_configs",
    "client",
    "connect",
    "create",
    "search",
    "start",
]


@dataclass(frozen=True, slots=True)
class _Draft:
    name: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    options: RunOptions = field(default_factory=RunOptions)
    experiment: str = ""
    overrides: Mapping[str, object] = field(default_factory=dict)
    run_order: RunOrder | None = None
    models: tuple[str, ...] = ()


class _Drafts(threading.local):
    draft: _Draft | None = None


_drafts = _Drafts()
_connection_lock = threading.Lock()  # guards _connection
_connection: Client | None = None


def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    tls: bool | None = None,
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Client:
    """Choose the server to train on; without this call LAB_SERVER does, else 127.0.0.1:50051.

    Args:
        address: HOST:PORT, or several servers of one store with commas between. `https://` before it encrypts.
        token: proves who asks; LAB_TOKEN when None.
        tls: encrypt; when None, LAB_TLS says so, or else `https://`, or that a certificate is given.
        ca: file of the authority to trust.
        cert: file of the client's certificate.
        key: file of its key.

    Returns:
        The client that is used from now on.
    """
    global _connection
    opened = Client(address, token=token, tls=tls, ca=ca, cert=cert, key=key)
    with _connection_lock:
        _connection = opened
    return opened


def client() -> Client:
    """Return the client that is used."""
    global _connection
    with _connection_lock:
        if _connection is None:
            _connection = Client()
        return _connection


def create(
    *,
    name: str | None = None,
    comment: str = "",
    writers: Iterable[str] | None = None,
    tags: Iterable[str] | None = None,
    options: RunOptions | None = None,
) -> None:
    """Begin to describe a new run; nothing is sent yet.

    Args:
        name: for people; the script's name when None.
        comment: free text, the run's notes.
        writers: of "sqlite" and "tensorboard"; None means both.
        tags: labels to find the run by.
        options: priority, device and the like.
    """
    options = options or RunOptions()
    if writers is not None:
        chosen = {writers} if isinstance(writers, str) else set(writers)
        options = replace(options, writers=tuple(sorted(chosen - {"console"})))
    tags = (tags,) if isinstance(tags, str) else tuple(tags or ())
    script = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
    _drafts.draft = _Draft(
        name=script if name is None else name, tags=tags, notes=comment, options=options
    )


def calculate_configs(
    experiment: str,
    configs_dict: Mapping[str, object] | None = None,
    run_order: RunOrder | None = None,
) -> Plan:
    """Resolve the configs on the server and return the plan.

    Args:
        experiment: the name of an experiment of the server.
        configs_dict: values for some of its config items.
        run_order: what to compute first; None is the experiment's own order.

    Raises:
        ConfigError: if the configs are wrong, with all that is wrong.
        ExperimentNotFound: if there is no such experiment.
    """
    draft = replace(_current("calculate_configs"), experiment="")
    _drafts.draft = draft  # if this fails, start() must not train what was planned before
    plan = client().plan(experiment, configs_dict, run_order=run_order)
    _drafts.draft = replace(
        draft, experiment=experiment, overrides=dict(configs_dict or {}), run_order=run_order
    )
    return plan


def add_pytorch_models(models: Iterable[str]) -> None:
    """Choose the config items to checkpoint as models; of a dict the keys are taken, as in lab."""
    names = (models,) if isinstance(models, str) else tuple(models)
    draft = _current("add_pytorch_models")
    _drafts.draft = replace(draft, models=(*draft.models, *names))


@parameters_of(Client.search)
def search(*args: Any, **kwargs: Any) -> Search:
    """Search for good configs on the server: the loop over the grid in one call. See `Client.search`.

    Example:
        >>> from lab_client import choice, experiment
        >>> grid = {"conv1_kernal": choice(3, 5), "conv2_kernal": choice(3, 5)}
        >>> study = experiment.search("mnist", grid, maximize="accuracy")  # doctest: +SKIP
    """
    return client().search(*args, **kwargs)


def start() -> Run:
    """Create the run and queue it; returns at once, the run trains on the server.

    Raises:
        InvalidState: if `calculate_configs` was not called before.
    """
    draft = _current("start")
    if not draft.experiment:
        raise InvalidState("call experiment.calculate_configs(NAME, ...) before start()")
    run = client().create(
        draft.experiment,
        draft.overrides,
        run_order=draft.run_order,
        models=draft.models,
        name=draft.name,
        tags=draft.tags,
        notes=draft.notes,
        options=draft.options,
    )
    _drafts.draft = None  # a second start() must not silently train the same again
    return run.start()


def _current(caller: str) -> _Draft:
    if _drafts.draft is None:
        raise InvalidState(f"call experiment.create(...) before {caller}(), in the same thread")
    return _drafts.draft
