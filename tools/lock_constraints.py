"""Write constraints.txt: the versions by which `make` installs, on any Python and platform.

    make constraints

It takes the newest versions that fit pyproject.toml, with uv's universal resolution: where the versions
differ between Pythons or platforms, the lines carry markers. What torch and torchvision bring is the
platform's choice (the CPU's or a CUDA's build, which an index may have in other versions), so they and
what they need are bounded from above but not pinned, and the CUDA packages, which torch pins itself, are
left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "constraints.txt"
OLDEST_PYTHON = "3.11"
PLATFORMS_CHOICE = ("torch", "torchvision")
OMITTED = re.compile(r"(nvidia-(?!ml-py)|cuda-|triton$)")
HEADER = """\
# The versions by which make installs. Written by `make constraints`; do not edit.
# `<=`: what torch brings is bounded, not pinned, so that any build of torch that fits the machine can be had.
"""


def resolve(requirements: str, *options: str) -> dict[str, list[str]]:
    """Return the lines of a universal resolution by package; several where the Pythons differ.

    Args:
        requirements: what the option `-` stands for, one a line.
        options: what to resolve, in uv's words: files, `-`, extras.
    """
    uv = str(Path(sys.executable).with_name("uv"))
    form = ["--quiet", "--no-header", "--no-annotate"]
    done = subprocess.run(
        [uv, "pip", "compile", "--universal", "--python-version", OLDEST_PYTHON, *form, *options],
        input=requirements,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        lines.setdefault(line.partition("==")[0], []).append(line)
    return lines


def constraints() -> str:
    """Return the text of constraints.txt."""
    everything = resolve("", "--all-extras", "pyproject.toml")
    of_platform = resolve("\n".join(PLATFORMS_CHOICE), "-")
    kept = [
        line.replace("==", "<=", 1) if name in of_platform else line
        for name, lines in everything.items()
        if not OMITTED.match(name)
        for line in lines
    ]
    return HEADER + "\n".join(kept) + "\n"


if __name__ == "__main__":
    TARGET.write_text(constraints())
    print(f"wrote {TARGET.relative_to(ROOT)}; see what is new with: git diff {TARGET.name}")
