"""Which code a run was made with, and where: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GitState:
    """The state of the git repository around an experiment.

    Attributes:
        commit: hash of HEAD.
        subject: of that commit.
        branch: empty when HEAD is detached.
        is_dirty: whether tracked files were changed since; the run's file `source.diff` has the changes.
        untracked: files of the experiment that no commit has.
    """

    commit: str
    subject: str
    branch: str
    is_dirty: bool
    untracked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Environment:
    """Versions and machine; empty where there is none, or it is not known.

    Attributes:
        python: version.
        torch: version with its build: "2.9.0+cu128".
        lab_train: version.
        cuda: version that torch was built for.
        cudnn: version that torch uses on the GPU.
        driver: version of the GPU's driver.
        host: name of the machine.
        system: kernel and architecture.
        device: "cpu" or "cuda:0".
        device_name: the model of the GPU, or of the CPU.
    """

    python: str = ""
    torch: str = ""
    lab_train: str = ""
    cuda: str = ""
    cudnn: str = ""
    driver: str = ""
    host: str = ""
    system: str = ""
    device: str = ""
    device_name: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which code an attempt of a run was made with, and where.

    Attributes:
        module: the module of the experiment's config class.
        class_name: the class.
        path: the module's file on the machine that trained; empty if it has none.
        digest: SHA-256 over module, class and files: equal code has an equal digest.
        files: the SHA-256 of each file of the experiment, by path.
        num_left_out: files that were too many or too large to be recorded.
        folder: the folder with copies of the files, among the run's files.
        git: the repository around the module; None without one.
        environment: versions and machine.

    Example:
        >>> from lab_client import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     found = client.run("20261123").info.provenance
        ...     print(found.git.commit, found.environment.torch, *found.files)
    """

    module: str
    class_name: str
    path: str
    digest: str
    files: Mapping[str, str]
    num_left_out: int
    folder: str
    git: GitState | None
    environment: Environment

    def changed_files(self, other: Provenance) -> tuple[str, ...]:
        """Return the files in which two runs differ, by path; those of only one of them too."""
        paths = sorted({*self.files, *other.files})
        return tuple(path for path in paths if self.files.get(path) != other.files.get(path))
