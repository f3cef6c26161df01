"""Trials as runs: created, started and stopped as the log asks, and told of as their own logs say.

Everything here may be done again: a run is created and started by keys made from search, trial and rung.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Mapping
from typing import Final, Protocol

from lab_core.configs import PlainValue, Plan
from lab_server.errors import InvalidState, LimitReached, NotFound
from lab_server.model.launch import DISK_FULL
from lab_server.model.run import Run, RunRequest, RunState, TrialOf
from lab_server.model.search import SearchState, TrialState
from lab_server.model.search_log import Entry, Paused, Started, Told
from lab_server.search.fold import Search, Trial
from lab_server.search.median import MedianJudge
from lab_server.search.objective import measure, read_curve
from lab_server.store import Store
from lab_server.supervisor.protocol import RunControl

_NO_SPACE: Final = os.strerror(errno.ENOSPC)


class Plans(Protocol):
    """Resolves config messages, and knows the code that they are resolved for; a catalogue does."""

    async def replan(
        self,
        experiment: str,
        overrides: Mapping[str, PlainValue],
        run_order: tuple[tuple[str, ...], ...],
    ) -> Plan:
        """Return the plan of a config message that was found good before."""

    async def code_digest(self, experiment: str) -> str:
        """Return the digest of the code that an experiment has now, "" when it is not there any more."""


class TrialRuns:
    """Carries out what a search's log says of its trials."""

    def __init__(self, runs: RunControl, store: Store, plans: Plans, *, max_runs: int) -> None:
        self._runs, self._store, self._plans, self._max_runs = runs, store, plans, max_runs
        self._judge = MedianJudge(store)

    async def advance(self, search: Search, trial: Trial) -> Entry | None:
        """Do what is next for a running trial; return what is to be written to the log, if anything.

        Raises:
            LimitReached: If its owner has as many runs as may be.
            QueueFull: If its run cannot wait for a slot as yet.
            StoreError: If nothing could be written.
            Unavailable: If the experiments are not loaded as yet.
        """
        if not trial.run_id:
            if _is_ending(search):
                return _left_out(trial, "the search was stopped before it began")
            return Started(trial.number, (await self._create(search, trial)).id)
        try:
            return await self._go_on(search, trial, await self._runs.get(trial.run_id))
        except NotFound:
            return _left_out(trial, "its run was deleted")

    async def _go_on(self, search: Search, trial: Trial, run: Run) -> Entry | None:
        if _is_ending(search) or trial.pruned is not None:
            if not run.state.is_terminal:
                with contextlib.suppress(InvalidState):  # it has just ended
                    await self._runs.stop(run.id, checkpoint=True)
                return None
            if _is_below(run, trial):
                return _left_out(trial, "the search was stopped before it went on", run)
        elif run.state is RunState.CREATED or _is_below(run, trial):
            return await self._start(search, trial, run)
        else:
            pruned = await self._judge.judge(search, trial, run)
            if pruned is not None:
                return pruned
        if not run.state.is_terminal:
            return None
        self._judge.forget(run.id)
        return await self._tell(search, trial, run)

    async def _create(self, search: Search, trial: Trial) -> Run:
        spec = search.spec
        request = RunRequest(
            experiment=spec.experiment,
            overrides={**spec.fixed, **trial.params},
            run_order=spec.run_order,
            models=spec.models,
            options=spec.options,
            name=f"{spec.name}-{trial.number}",
            tags=spec.tags,
            notes=spec.notes,
            trial=TrialOf(search.id, trial.number, trial.seed),
        )
        plan = await self._plans.replan(spec.experiment, request.overrides, spec.run_order)
        return await self._runs.create(
            request,
            owner=search.owner,
            config_hash=plan.hash,
            configs=plan.known,
            code_digest=await self._plans.code_digest(spec.experiment),
            key=_key(search, trial),
            fingerprint=hashlib.sha256(repr(request).encode()).hexdigest(),
        )

    async def _start(self, search: Search, trial: Trial, run: Run) -> Told | None:
        """Start a run; return what its trial comes to if it cannot be, and never could."""
        if sum(live.owner == search.owner for live in self._runs.live()) >= self._max_runs:
            raise LimitReached(f"{search.owner or 'its owner'} has {self._max_runs} runs already")
        resume = run.state is not RunState.CREATED
        key = f"{_key(search, trial)}/{trial.rung}/{run.attempt}"
        try:
            await self._runs.start(
                run.id,
                resume=resume,
                until_step=trial.until_step,
                key=key,
                code_digest=await self._plans.code_digest(run.experiment),
            )
        except InvalidState as error:
            now = await self._runs.get(run.id)
            if (now.state, now.attempt) == (run.state, run.attempt):
                return Told(
                    trial.number,
                    trial.rung,
                    TrialState.FAILED,
                    step=run.step,
                    run_seq=now.last_seq,
                    reason=f"its run could not be started: {error}",
                )
            # somebody else has started it: its end will be told
        return None

    async def _tell(self, search: Search, trial: Trial, run: Run) -> Entry | None:
        """Return what became of a trial whose run has ended."""
        at = {"number": trial.number, "rung": trial.rung, "run_seq": run.last_seq}
        step = run.step
        if trial.pruned is not None:
            pruned = trial.pruned
            return Told(
                **at,
                state=TrialState.PRUNED,
                value=pruned.value,
                step=pruned.step,
                reason=pruned.reason,
            )
        if _is_cut_off(run):
            return _left_out(trial, f"its run was stopped: {run.reason}", run)
        if run.state is RunState.FAILED:
            if _is_disk_full(run):
                return await self._on_full_disk(search, trial, run)
            return Told(**at, state=TrialState.FAILED, step=step, reason=run.reason)
        metric = search.spec.objective.metric
        curve = (await read_curve(self._store, run.id, metric)).up_to(trial.until_step)
        measured = measure(search.spec.objective, curve)
        is_paused = 0 < trial.until_step < run.step or run.is_paused
        problem = measured.problem
        if is_paused and not curve.values:
            problem += f" up to step {trial.until_step}, where trials are compared; if it comes later, use larger min_steps"
        if measured.value is None:
            reason = f"{run.reason}; {problem}" if run.is_out_of_time else problem
            return Told(**at, state=TrialState.FAILED, step=step, reason=reason)
        if run.is_out_of_time:
            value = measured.value
            return Told(**at, state=TrialState.PRUNED, value=value, step=step, reason=run.reason)
        return Told(
            **at,
            state=TrialState.PAUSED if is_paused else TrialState.COMPLETED,
            value=measured.value,
            step=min(step, trial.until_step) if is_paused else step,
            reason=f"paused at rung {trial.rung}, step {trial.until_step}" if is_paused else "",
        )

    async def _on_full_disk(self, search: Search, trial: Trial, run: Run) -> Entry | None:
        """Pause the search; when it went on after that, let the run go on."""
        if search.state is SearchState.PAUSED:
            return None
        if search.state is SearchState.STOPPING:
            return _left_out(trial, run.reason, run)
        if run.end_time_ns < search.resume_time_ns:
            return await self._start(search, trial, run)
        return Paused(f"run {run.id} found no room on the disk: free some, and resume the search")


def _is_ending(search: Search) -> bool:
    return search.stopping is not None and search.stopping.with_trials


def _key(search: Search, trial: Trial) -> str:
    # no caller's key begins so
    return f"/search/{search.id}/{trial.number}"


def _is_below(run: Run, trial: Trial) -> bool:
    """Return whether a run is paused at a lower rung than its trial trains for."""
    return run.is_paused and (not trial.until_step or run.until_step < trial.until_step)


def _is_cut_off(run: Run) -> bool:
    """Return whether somebody stopped a run before it was trained as far as it was to be."""
    is_done = run.state is RunState.COMPLETED or run.is_out_of_time
    return run.is_stop_requested and not is_done


def _is_disk_full(run: Run) -> bool:
    return run.reason == DISK_FULL or _NO_SPACE in run.reason


def _left_out(trial: Trial, reason: str, run: Run | None = None) -> Told:
    return Told(
        trial.number,
        trial.rung,
        TrialState.LEFT_OUT,
        step=max(trial.step, run.step) if run else trial.step,
        run_seq=run.last_seq if run else 0,
        reason=reason,
    )
