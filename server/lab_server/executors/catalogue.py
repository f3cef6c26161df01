"""The experiments that the server can run, as their code is now."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Mapping, Sequence

import structlog

from lab_core.configs import PlainValue, Plan, Schema, plan
from lab_core.errors import ConfigError, LabError, Violation
from lab_server.errors import (
    BrokenModule,
    CheckCrashed,
    InvalidRequest,
    LaunchError,
    NotFound,
    Unavailable,
)
from lab_server.executors.protocol import Executor
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.fork import ForkSource
from lab_server.model.upload import Upload

_MAX_CHECKS = 4

_log = structlog.get_logger("lab_server.catalogue")


class Catalogue:
    """Knows the experiments, and what a config message resolves to.

    Each question asks the executor, which notices edits; one that comes while they are loaded waits, up to
    a bound.
    """

    def __init__(self, executor: Executor, *, wait_s: float = 60.0) -> None:
        self._executor = executor
        self._wait_s = wait_s
        self._described: tuple[ExperimentEntry, ...] | None = None
        self._entries: Mapping[str, ExperimentEntry] = {}
        # Each check is a process; a flood of plans must not be a flood of those.
        self._checks = asyncio.Semaphore(_MAX_CHECKS)

    async def load(self) -> None:
        """Let the executor describe the experiments; a failure is logged, and told by every question."""
        try:
            self._note(await self._executor.describe())
        except LabError as error:
            _log.error("the catalogue could not be loaded", error=str(error))

    async def reload(self) -> None:
        """Have the experiments imported anew, and log what there is."""
        _log.info("loading the experiments anew, as asked")
        await self._executor.reload()
        await self.load()

    @property
    def is_loaded(self) -> bool:
        """True once the experiments are known."""
        return self._described is not None

    async def entries(self) -> Sequence[ExperimentEntry]:
        """Return every experiment, by name.

        Raises:
            Unavailable: If they are not loaded in time.
        """
        return tuple((await self._loaded()).values())

    async def get(self, name: str, upload: Upload | None = None) -> ExperimentEntry:
        """Return an experiment, of an upload if there is one.

        Raises:
            InvalidRequest: Without a name, if the upload has several experiments.
            NotFound: If there is none of this name.
        """
        if upload is not None:
            return _in_upload(name, await self._describe(upload))
        entries = await self._loaded()
        try:
            return entries[name]
        except KeyError:
            close = difflib.get_close_matches(name[:100], entries, n=1)
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else f"available: {', '.join(entries) or 'none'}"
            )
            raise NotFound("experiment", name[:200], hint) from None

    async def broken(self) -> str:
        """Return why an experiment cannot be loaded, "" when all can."""
        entries = (await self._loaded()).values()
        return next((entry.error for entry in entries if entry.schema is None), "")

    async def code_digest(self, name: str, upload: Upload | None = None) -> str:
        """Return the digest of the code that an experiment has now, "" when it is not there any more."""
        with contextlib.suppress(NotFound):
            return (await self.get(name, upload)).code_digest
        return ""

    async def schema(self, name: str, upload: Upload | None = None) -> Schema:
        """Return an experiment's schema.

        Raises:
            NotFound: If there is none of this name.
            BrokenModule: If its module cannot be imported.
        """
        entry = await self.get(name, upload)
        if entry.schema is None:
            raise BrokenModule([Violation("", f"{entry.error}\n{entry.traceback}".rstrip())])
        return entry.schema

    async def plan(
        self,
        experiment: str,
        overrides: Mapping[str, PlainValue],
        run_order: Sequence[Sequence[str]] = (),
        models: Sequence[str] = (),
        upload: Upload | None = None,
    ) -> Plan:
        """Return what a config message resolves to, checked by the experiment's own checks too.

        Raises:
            NotFound: If there is no such experiment.
            ConfigError: With everything that is wrong.
            CannotBeChecked: If nothing is known to be wrong, but its module or its checks fail.
        """
        schema = await self.schema(experiment, upload)
        order = [list(group) for group in run_order] or None
        problems = model_problems(schema, models)
        try:
            resolved = plan(schema, overrides, order)
        except ConfigError as error:
            problems = (*error.violations, *problems)
        async with self._checks:
            try:
                found = await self._executor.check(experiment, overrides, upload)
            except CheckCrashed as error:
                if not problems:
                    raise
                found = error.violations
        # the executor tells the schema's problems again, and those of the experiment's own checks
        problems += tuple(violation for violation in found if violation not in problems)
        if problems:
            raise ConfigError(problems)
        return resolved

    async def replan(
        self,
        experiment: str,
        overrides: Mapping[str, PlainValue],
        run_order: Sequence[Sequence[str]] = (),
    ) -> Plan:
        """Return the plan of a config message that `plan` found good.

        Raises:
            NotFound: If there is no such experiment.
            ConfigError: If it is not good any more.
            BrokenModule: If its module cannot be imported.
        """
        order = [list(group) for group in run_order] or None
        return plan(await self.schema(experiment), overrides, order)

    async def try_fork(
        self,
        experiment: str,
        overrides: Mapping[str, PlainValue],
        source: ForkSource,
        upload: Upload | None = None,
    ) -> int | None:
        """Return the step at which a fork would end, None if nobody knows before it trains.

        Raises:
            ConfigError: With what cannot go on from its checkpoint; also if nothing is left to train.
        """
        async with self._checks:
            trial = await self._executor.try_fork(experiment, overrides, source, upload)
        if trial.violations:
            raise ConfigError(trial.violations)
        if trial.unknown:
            _log.warning(
                "a fork could not be tried before it trains",
                experiment=experiment,
                step=source.step,
                reason=trial.unknown,
            )
        return trial.total_steps

    async def _loaded(self) -> Mapping[str, ExperimentEntry]:
        self._note(await self._describe())
        return self._entries

    async def _describe(self, upload: Upload | None = None) -> tuple[ExperimentEntry, ...]:
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._executor.describe(upload)
        except TimeoutError:
            raise Unavailable(
                "the experiments are still being loaded; try again in a few seconds"
            ) from None
        except LaunchError as error:
            raise Unavailable(f"the experiments could not be loaded: {error}") from error

    def _note(self, described: tuple[ExperimentEntry, ...]) -> None:
        """Take over what the executor says, and log what is new."""
        if described == self._described:
            return
        self._described = described
        self._entries = {entry.name: entry for entry in sorted(described, key=_name)}
        failed = [entry for entry in described if entry.schema is None]
        for entry in failed:
            # the log writes this name as it does an exception of our own
            trace = {"exception": entry.traceback.rstrip()} if entry.traceback else {}
            _log.warning(
                "an experiment cannot be run", experiment=entry.name, error=entry.error, **trace
            )
        _log.info(
            "catalogue loaded",
            experiments=[entry.name for entry in described if entry.schema is not None],
            **({"failed": [entry.name for entry in failed]} if failed else {}),
        )


def _name(entry: ExperimentEntry) -> str:
    return entry.name


def _in_upload(name: str, entries: Sequence[ExperimentEntry]) -> ExperimentEntry:
    found = {entry.name: entry for entry in entries}
    broken = next((entry for entry in entries if entry.schema is None), None)
    if name in found:
        return found[name]
    if len(found) == 1 and not name:
        return entries[0]
    if broken is not None:  # its module has no experiments, of whatever name, because of this
        return broken
    known = ", ".join(sorted(found))
    if name:
        raise NotFound("experiment", name[:200], f"the code that was sent has: {known}")
    sentence = f"the code that was sent has several experiments: {known}; say which one"
    raise InvalidRequest([Violation("experiment", sentence)])


def model_problems(schema: Schema, models: Sequence[str]) -> tuple[Violation, ...]:
    """Return what is wrong with the names of models: each must be an item that only code can set."""
    items = {item.key: item for item in schema.items}
    problems = []
    for name in models:
        item = items.get(name)
        if item is None:
            close = difflib.get_close_matches(name[:100], items, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            message = f"{name[:100]!r} is not an item of the experiment{hint}"
        elif item.is_nested or not item.type.startswith(("object", "any")):
            kind = "a config class" if item.is_nested else item.type
            message = f"{name!r} is not a model but {kind}"
        else:
            continue
        problems.append(Violation("models", message))
    return tuple(problems)
