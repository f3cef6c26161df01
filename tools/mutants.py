"""Change the code in small ways, one at a time, and list the changes that no test notices.

    make mutants                    # all modules of TARGETS: many hours
    make mutants ONLY=pace          # one module
    make mutants ONLY="pace watch"  # several, and all that is in a folder of such a name

It works on a copy of the tree under .mutants, so you can go on working; cosmic-ray makes the changes and
runs the tests. Each survivor is printed as a diff. Answer it with a test that fails when the change is made,
or, if no test can tell the two apart, with a line in equivalent_mutants.toml that says why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".mutants"
TREE = WORK / "tree"
EQUIVALENT = ROOT / "tools" / "equivalent_mutants.toml"

# What is changed, and the tests that shall notice, the fastest first; of two lines for a module the first holds.
TARGETS = {
    "lab_core/tracker/pace.py": "tests/core/tracker/test_pace.py",
    "lab_core/tracker/worker.py": "tests/core/tracker/test_worker.py tests/core/tracker/test_background.py",
    "lab_core/tracker/*.py": "tests/core/tracker",
    "lab_core/checkpoints/_retention.py": "tests/core/checkpoints/test_checkpoint_files.py",
    "lab_core/checkpoints/*.py": "tests/core/checkpoints",
    "lab_core/loop/*.py": "tests/core/loop tests/core/checkpoints/test_looping_runs.py",
    "server/lab_server/files/spool.py": "tests/server/test_spool.py",
    "server/lab_server/files/tail.py": "tests/server/test_tail.py",
    "server/lab_server/supervisor/queue.py": "tests/runs/test_queue.py",
    "server/lab_server/supervisor/slot_table.py": "tests/runs/test_slots.py",
    "server/lab_server/supervisor/*.py": "tests/runs",
    "server/lab_server/watch/log_cache.py": "tests/server/test_log_cache.py tests/server/test_hub.py",
    "server/lab_server/watch/*.py": "tests/server/test_hub.py tests/server/test_history.py "
    "tests/server/test_history_writer.py tests/server/test_events.py",
    "client/lab_client/protocol/retry.py": "tests/client/test_retry.py",
    "client/lab_client/protocol/*.py": "tests/client",
}
PYTEST = "-m pytest -x -q -p no:cacheprovider -m 'not slow and not exhaustive'"
# Left out: `|`, since it stands in annotations, and replacements that say no more than + for - and * for /.
LEFT_OUT = [
    "core/ReplaceBinaryOperator_BitOr_.*",
    "core/ReplaceBinaryOperator_.*_(BitAnd|BitOr|BitXor|FloorDiv|LShift|Mod|Pow|RShift)$",
]


def modules() -> dict[str, str]:
    """Return the tests of each module that is changed, by its path."""
    found: dict[str, str] = {}
    for pattern, tests in TARGETS.items():
        paths = sorted(ROOT.glob(pattern))
        if not paths:
            raise SystemExit(
                f"TARGETS names {pattern}, but there is no such module: correct {__file__}"
            )
        for path in paths:
            found.setdefault(path.relative_to(ROOT).as_posix(), tests)
    return found


def select(names: list[str]) -> dict[str, str]:
    """Return the modules of such a name, and those in a folder of such a name; all for no names."""
    named = {path: {*Path(path).with_suffix("").parts} for path in modules()}
    for name in names:
        if not any(name in parts for parts in named.values()):
            raise SystemExit(
                f"no module or folder of TARGETS is called {name!r}; they are: {', '.join(named)}"
            )
    return {path: tests for path, tests in modules().items() if not names or named[path] & {*names}}


def copy_tree() -> None:
    """Copy what git tracks or would track, with its times: compiled modules of a change are never reused."""
    shutil.rmtree(WORK, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)


def run(*command: str) -> str:
    """Run a command in the copy, with the copy's packages, and return what it writes."""
    packages = [TREE, *(TREE / part for part in ("client", "server", "protos"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages))}
    done = subprocess.run(
        command,
        cwd=TREE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nfailed, before any change was made: {' '.join(command)}")
    return done.stdout


def tool(name: str) -> str:
    """Return the path of a command that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def results(path: str, tests: str) -> Iterator[tuple[str, str]]:
    """Change a module in every way, and yield what came of each: the outcome and the diff.

    Raises:
        SystemExit: If the tests fail on the unchanged code, or a change could not be tested.
    """
    command = f"{sys.executable} {PYTEST} {tests}"
    begin = time.monotonic()
    run("sh", "-c", command)
    timeout_s = 10 + 3 * (time.monotonic() - begin)
    config, session = WORK / "config.toml", WORK / f"{path.replace('/', '.')}.sqlite"
    config.write_text(
        f"[cosmic-ray]\nmodule-path = {json.dumps(path)}\ntest-command = {json.dumps(command)}\n"
        f'timeout = {timeout_s}\nexcluded-modules = []\ndistributor.name = "local"\n'
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {json.dumps(LEFT_OUT)}\n"
    )
    run(tool("cosmic-ray"), "init", str(config), str(session))
    run(tool("cr-filter-operators"), str(session), str(config))
    run(tool("cosmic-ray"), "exec", str(config), str(session))
    for line in run(tool("cosmic-ray"), "dump", str(session)).splitlines():
        _, result = json.loads(line)
        if result["worker_outcome"] == "exception":
            raise SystemExit(f"{result['output']}\na change of {path} could not be made or tested")
        if result["worker_outcome"] == "normal":
            yield result["test_outcome"], result["diff"]


def changed_line(diff: str) -> str:
    """Return the first line that a diff adds, or removes if it adds none, without its indentation."""
    lines = [line for line in diff.splitlines() if not line.startswith(("+++", "---"))]
    added = [line[1:].strip() for line in lines if line.startswith("+")]
    return (added or [line[1:].strip() for line in lines if line.startswith("-")])[0]


def examine(path: str, tests: str, equivalent: dict[str, str], everywhere: dict[str, str]) -> int:
    """Change a module in every way, print what no test noticed, and return how many such changes there are.

    Args:
        path: the module's.
        tests: the tests that shall notice.
        equivalent: changes that no test can notice, by the changed line; why, as the value.
        everywhere: those of any module.
    """
    found = list(results(path, tests))
    survivors = [diff for outcome, diff in found if outcome == "survived"]
    answered = equivalent | everywhere
    unanswered = [diff for diff in survivors if changed_line(diff) not in answered]
    for diff in unanswered:
        print(f"{diff}\n")
    for line in equivalent.keys() - {changed_line(diff) for diff in survivors}:
        print(
            f"{EQUIVALENT.name}: no surviving change of {path} makes this line, remove it: {line}"
        )
    print(
        f"{path}: {len(found)} changes, {len(found) - len(survivors)} noticed, "
        f"{len(survivors) - len(unanswered)} equivalent, {len(unanswered)} to answer",
        flush=True,
    )
    return len(unanswered)


def main(names: list[str]) -> int:
    """Examine the modules of such names; return 1 if a change of them is to be answered."""
    selected = select(names)
    equivalent = tomllib.loads(EQUIVALENT.read_text())
    copy_tree()
    num_unanswered = sum(
        examine(path, tests, equivalent.get(path, {}), equivalent["*"])
        for path, tests in selected.items()
    )
    return 1 if num_unanswered else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
