"""An agent's folder: who it is, which attempts it holds, and their runs' files until the server has them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lab_core.errors import SettingsError
from lab_server.descriptors import raise_if_blind
from lab_server.files.home import Home
from lab_server.files.run_folder import RunFolder
from lab_server.model.agent import AttemptKey
from lab_server.model.launch import LaunchSpec
from lab_server.security.tokens import new_secret


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent is: its secret was made here, and no one else has it.

    Attributes:
        credential_id: the public part of its credential, "" before it has joined.
    """

    name: str
    pool: str
    secret: str
    credential_id: str = ""


class AgentHome:
    """The folder of one agent, which keeps it for itself while it runs.

    Attributes:
        lease: the file that says until when trainers may go on.
        uploads: the code that clients sent and that attempts here run.
    """

    def __init__(self, path: Path, *, is_ephemeral: bool = False) -> None:
        self.path = path
        self.is_ephemeral = is_ephemeral
        self.lease = path / "lease"
        self.uploads = Home(path).uploads
        self._identity = path / "agent.json"
        self._attempts = path / "attempts"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, and keep other agents out of it.

        Raises:
            SettingsError: If it cannot be written, or another agent has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._attempts.mkdir(exist_ok=True)
            lock = (self.path / "lock").open("w")
        except OSError as error:
            raise SettingsError(f"cannot make the folder {self.path}: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SettingsError(
                    f"another agent uses the folder {self.path}; give this one another --home"
                ) from None
            yield

    def known_name(self) -> str:
        """Return the name that the agent has had, "" if it is new."""
        try:
            return str(json.loads(self._identity.read_text())["name"])
        except OSError as error:
            raise_if_blind(error)
            return ""
        except (ValueError, TypeError, KeyError):
            return ""

    def identity(self, name: str, pool: str) -> Identity:
        """Return who the agent is; one that is new, or gets another name, makes itself a secret.

        Args:
            name: that it is to have.
            pool: that it is to be in, "" for whichever the server says.
        """
        try:
            found = Identity(**json.loads(self._identity.read_text()))
        except OSError as error:
            raise_if_blind(error)
            found = None
        except (ValueError, TypeError):
            found = None
        if found is not None and found.name == name and pool in ("", found.pool):
            return found
        identity = Identity(name, pool, new_secret())
        self.keep_identity(identity)
        return identity

    def keep_identity(self, identity: Identity) -> None:
        """Write who the agent is."""
        _write(self._identity, json.dumps(asdict(identity)))

    def folder(self, spec: LaunchSpec) -> RunFolder:
        """Return where the run of an attempt lies on this machine."""
        return Home(self.path).run_folder(spec.experiment, spec.run_id)

    def hold(self, spec: LaunchSpec) -> None:
        """Note that an attempt is held."""
        key = AttemptKey(spec.run_id, spec.attempt)
        _write(self._note(key), json.dumps(spec.to_json()))

    def held(self) -> list[LaunchSpec]:
        """Return the attempts that are held, also from before this process.

        Raises:
            OSError: If one cannot be read.
        """
        # not glob, which may take a folder that it cannot read for an empty one
        notes = [path for path in self._attempts.iterdir() if path.suffix == ".json"]
        return [LaunchSpec.from_json(json.loads(path.read_text())) for path in sorted(notes)]

    def release(self, spec: LaunchSpec) -> None:
        """Forget an attempt, with the files of its run."""
        shutil.rmtree(self.folder(spec).path, ignore_errors=True)
        self._note(AttemptKey(spec.run_id, spec.attempt)).unlink(missing_ok=True)

    def _note(self, key: AttemptKey) -> Path:
        return self._attempts / f"{key.run_id}.{key.attempt}.json"


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
