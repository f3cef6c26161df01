"""What a checkpoint of a run holds, taken from the run and put back into it."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

from lab_core.checkpoints._rng import Snapshot
from lab_core.configs import BaseConfigs, Settings, settings
from lab_core.errors import CheckpointError, Violation
from lab_core.experiment._generators import OwnGenerator, own_generator
from lab_core.experiment._gradients import gradients_of, restore_gradients
from lab_core.experiment._history import History, Recorder
from lab_core.experiment._options import (
    NotCarriedOver,
    carried_over,
    kind_of,
    options_of,
    patched,
)
from lab_core.loop import Loop
from lab_core.tracker import Tracker

# no name that an item can have
REST = "_run"
SEEDER = "set_seed"
_NAME = re.compile(r"[A-Za-z][\w.-]*")


@runtime_checkable
class Stateful(Protocol):
    """A model, an optimizer, a scheduler: what torch saves by a state dict."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take the state."""


def find_stateful(
    computed: Mapping[str, object], added: Mapping[str, object]
) -> dict[str, Stateful]:
    """Return what has a state, by name, each once: what was added, then what the configs computed."""
    found: dict[str, Stateful] = {}
    seen: set[int] = set()
    for name, value in (*added.items(), *computed.items()):
        if id(value) in seen or name in found:
            continue
        # a class has the methods too
        is_stateful = isinstance(value, Stateful) and not isinstance(value, type)
        stateful = value if is_stateful else own_generator(value)
        if stateful is not None:
            check_name(name)
            seen.add(id(value))
            found[name] = cast(Stateful, stateful)
    return found


def check_name(name: object) -> None:
    """Check the name of what has a state.

    Raises:
        CheckpointError: If it cannot name a file of a checkpoint.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} cannot name a file of a checkpoint: use letters, digits, '_', '.' and '-', a letter first"
        )


@dataclass(slots=True)
class Built:
    """How each stateful object was when it had just been built, before anything was trained.

    Attributes:
        options: by name, what its configs set.
    """

    options: dict[str, Any] = field(default_factory=dict)

    def note(self, stateful: Mapping[str, Stateful]) -> None:
        """Take what was not there yet as it is now: it has just been built."""
        for name, value in stateful.items():
            if name not in self.options:
                self.options[name] = options_of(value)

    def note_again(self, stateful: Mapping[str, Stateful]) -> None:
        """Take these as they are now: whatever had their names before is another object."""
        for name in stateful:
            self.options.pop(name, None)
        self.note(stateful)

    def note_all(self, stateful: Mapping[str, Stateful]) -> None:
        """Take all as it is now: nothing was trained yet, so all that was done to it is building."""
        self.options.clear()
        self.note(stateful)

    def note_after(self, before: Mapping[str, Any], stateful: Mapping[str, Stateful]) -> None:
        """Take what was just built as it is now, and what its building has changed of the rest.

        Args:
            before: ``options_of`` what there was before: a scheduler touches its optimizer.
            stateful: what there is now.
        """
        for name, options in before.items():
            if name in self.options and name in stateful:
                after = options_of(stateful[name])
                self.options[name] = patched(self.options[name], options, after)
        self.note(stateful)


def all_options(stateful: Mapping[str, Stateful]) -> dict[str, Any]:
    """Return ``options_of`` each, by name."""
    return {name: options_of(value) for name, value in stateful.items()}


def capture(
    stateful: Mapping[str, Stateful],
    loop: Loop,
    tracker: Tracker,
    history: History,
    built: Built,
    conf: BaseConfigs | None,
) -> dict[str, Any]:
    """Return everything that a run needs in order to go on, by the file it goes to.

    Raises:
        CheckpointError: If an object does not give its state.
    """
    states: dict[str, Any] = {name: _state_of(name, value) for name, value in stateful.items()}
    built.note(stateful)
    states[REST] = {
        "step": loop.step,
        "positions": loop.place.positions(),
        "gradients": gradients_of(stateful) if loop.is_after_loader else {},
        "rng": Snapshot.take().to_plain(),
        "tracker": tracker.state_dict(),
        "history": history.to_plain(),
        "built": {name: built.options[name] for name in stateful},
        "kinds": {name: kind_of(value) for name, value in stateful.items()},
        "configs": {} if conf is None else settings(conf).to_plain(),
    }
    return states


def _state_of(name: str, value: Stateful) -> Any:
    try:
        return value.state_dict()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{name!r} does not give its state: {reason}") from error


class Misfit(CheckpointError):
    """A checkpoint cannot go on with the configs of now.

    Attributes:
        violations: a sentence for each object that does not fit, under the config that changed it.
    """

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__(violations)
        self.violations = violations

    def __str__(self) -> str:
        return "\n".join(map(str, self.violations))


class Restorer:
    """Puts a checkpoint back into a run, in two goes.

    At the start of the run, all that the checkpoint's run had computed is computed as it was then, and
    gets its state. At the place where the checkpoint was taken it gets it again, as the way there may
    have touched it, with the random number generators and what was tracked, which it has used.
    """

    def __init__(self, states: Mapping[str, Any], loop: Loop, tracker: Tracker) -> None:
        self._states = {name: state for name, state in states.items() if name != REST}
        self._rest: dict[str, Any] = states[REST]
        self._loop = loop
        self._tracker = tracker
        self.history = History.from_plain(self._rest["history"])
        self._then = Settings.from_plain(self._rest["configs"])
        self._now = Settings()
        self._built = Built()

    @property
    def step(self) -> int:
        """The global step of the checkpoint."""
        return int(self._rest["step"])

    @property
    def saved_step(self) -> int:
        """The last step of which something was saved before the checkpoint; -1 for none.

        Not the checkpoint's own step: a loop that saves before it counts its step measures that
        one again.
        """
        return int(self._rest["tracker"]["saved_step"])

    @property
    def saved_row(self) -> dict[str, float]:
        """The scalars that were saved at `saved_step` before the checkpoint."""
        tracked = self._rest["tracker"]
        steps = tracked.get("last_steps", {})  # not in checkpoints of earlier versions
        saved_step = self.saved_step
        return {n: v for n, v in tracked["last"].items() if steps.get(n) == saved_step}

    @property
    def has_place(self) -> bool:
        """Whether the checkpoint was taken in or after a loop, to which the run has to come first."""
        positions = self._rest["positions"]
        return bool(positions["active"] or positions["ended"])

    @property
    def names(self) -> list[str]:
        """What the checkpoint has a state for."""
        return sorted(self._states)

    @property
    def model_names(self) -> list[str]:
        """Which of them are models."""
        return [name for name in self.names if self._rest["kinds"].get(name) is None]

    def begin(
        self,
        stateful: Mapping[str, Stateful],
        built: Built,
        recorder: Recorder,
        conf: BaseConfigs | None,
    ) -> None:
        """Restore what exists at the start of the run, when nothing was trained or restored yet.

        Raises:
            Misfit: If something does not fit its state.
            CheckpointError: If something drew other random numbers than in the checkpoint's run.
        """
        self._built = built
        self._refuse_other_numbers(recorder, stateful)
        if conf is not None:
            self._now = settings(conf, recorder.ahead())
        self.load(stateful, is_last=False)
        self._loop.resume(self.step, self._rest["positions"])

    def arrive(self, stateful: Mapping[str, Stateful], recorder: Recorder) -> None:
        """Restore all where the checkpoint was taken.

        Raises:
            CheckpointError: If something that the checkpoint has does not exist.
        """
        missing = ", ".join(name for name in self.names if name not in stateful)
        if missing:
            raise CheckpointError(
                f"the checkpoint of step {self.step} has {missing}, but nothing of that name was "
                f"computed or added; it is of another experiment"
            )
        self._built.note(stateful)
        self.load(stateful, is_last=True)
        restore_gradients(stateful, self._rest.get("gradients", {}))
        recorder.release()
        self._restore_rest(recorder)

    def load(self, stateful: Mapping[str, Stateful], *, is_last: bool = True) -> None:
        """Give each object its state.

        Args:
            stateful: the objects, noted in what was built.
            is_last: the states may be handed over: nothing else needs them.

        Raises:
            Misfit: If some do not fit.
        """
        problems: list[Violation] = []
        for name, value in stateful.items():
            if name not in self._states or self._is_seeded_anew(name, value):
                continue
            try:
                state = self._state_for(name, value)
                # an optimizer keeps the very tensors
                is_shared = not is_last and kind_of(value) is not None
                value.load_state_dict(copy.deepcopy(state) if is_shared else state)
            except Exception as error:
                # torch raises RuntimeError, ValueError, KeyError, ... for a state of another shape
                problems.append(self._misfit(name, value, error))
        if problems:
            raise Misfit(tuple(problems))

    def drop(self, items: Mapping[str, object], stateful: Mapping[str, Stateful]) -> list[str]:
        """Forget the states of items that have none any more, as the configs have turned them off.

        Args:
            items: what was computed, by name.
            stateful: those that have a state.

        Returns:
            The names of what was forgotten.

        Raises:
            Misfit: If one of them has changed what others do: a schedule the learning rate.
        """
        dropped = [name for name in self.names if name in items and name not in stateful]
        problems = [
            self._misfit(name, items[name], NotCarriedOver("its state would be lost"))
            for name in dropped
            if (self._rest["kinds"].get(name) or "").startswith("torch.optim.")
        ]
        if problems:
            raise Misfit(tuple(problems))
        for name in dropped:
            del self._states[name]
        return dropped

    def expect(self, built: Built, conf: BaseConfigs | None) -> None:
        """Take the configs and objects of now, to load states without going on from there."""
        self._built = built
        self._now = Settings() if conf is None else settings(conf)

    def _state_for(self, name: str, value: Stateful) -> Any:
        kind_then, kind_now = self._rest["kinds"].get(name), kind_of(value)
        if kind_then is not None and kind_then != kind_now:
            raise NotCarriedOver(
                f"it was a {_short(kind_then)} then and is a {_short(kind_now)} now"
            )
        then = self._rest["built"].get(name, {})
        return carried_over(value, self._states[name], then, self._built.options[name])

    def _misfit(self, name: str, value: Any, error: Exception) -> Violation:
        reason = " ".join(str(error).split()) or type(error).__name__
        if kind_of(value) is None:
            reason = _shapes(self._states[name], value.state_dict()) or reason
        changes = self._then.changes_behind(name, self._now)
        if not changes:
            return Violation(
                name, f"the checkpoint of step {self.step} does not fit {name!r}: {reason}"
            )
        said = " and ".join(f"{key}={now!r} (it was {then!r})" for key, then, now in changes)
        return Violation(
            changes[0][0],
            f"{said} cannot go on from the checkpoint of step {self.step}, which does not fit {name!r} "
            f"so: {reason}",
        )

    def _refuse_other_numbers(self, recorder: Recorder, stateful: Mapping[str, Stateful]) -> None:
        others = [key for key in recorder.differing() if key not in stateful]
        if others:
            names = ", ".join(map(repr, others))
            raise CheckpointError(
                f"{names} drew other random numbers than in the run of the checkpoint, and may not be "
                "what was trained on; load the checkpoint before experiment.calculate_configs, or let "
                "set_seed be the first of the run order"
            )

    def _restore_rest(self, recorder: Recorder) -> None:
        self._tracker.load_state_dict(self._rest["tracker"])
        seeded = self._new_seed(recorder)
        (seeded or Snapshot.from_plain(self._rest["rng"])).restore()

    def _is_seeded_anew(self, name: str, value: Stateful) -> bool:
        """Return whether it is a generator that the configs of now seed in another way."""
        is_generator = isinstance(value, OwnGenerator)
        return is_generator and bool(self._then.changes_behind(name, self._now))

    def _new_seed(self, recorder: Recorder) -> Snapshot | None:
        """Return the generators as a seed of this run's own set them; None if it has the same."""
        for key, made in recorder.history.items.items():
            if key.rpartition(".")[2] == SEEDER and self._then.changes_behind(key, self._now):
                return made.after
        return None


def _short(kind: str | None) -> str:
    return "model" if kind is None else kind.rpartition(".")[2]


def _shapes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return where the tensors of two state dicts differ in name or shape; the first few."""
    return "; ".join(list(_differences(then, now))[:4])


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*then, *now)):
        shapes = [_shape(state[name]) if name in state else "not there" for state in (then, now)]
        if shapes[0] != shapes[1]:
            yield f"{name} was {shapes[0]} then and is {shapes[1]} now"


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else str(list(shape))
