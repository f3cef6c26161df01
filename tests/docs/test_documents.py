"""Every ```python block of the README and the guides runs, top to bottom, in one namespace a document."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "localhost:50051"


def code_of(document: Path) -> str:
    """Return the blocks as one module whose line numbers are those of the document."""
    text = document.read_text()
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


WITH_CODE = [document for document in DOCUMENTS if BLOCK.search(document.read_text())]


@pytest.mark.parametrize("document", WITH_CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_the_document_run(
    document: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    code = code_of(document)
    environment = {**os.environ, "LAB_HOME": str(tmp_path / "home"), "MPLBACKEND": "agg"}
    if ADDRESS in code or "lab_client" in code:
        address = request.getfixturevalue("server").address
        code = code.replace(ADDRESS, address)
        environment["LAB_SERVER"] = address
    script = tmp_path / f"{document.stem}.py"
    script.write_text(code)

    result = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert result.returncode == 0, f"{document.name}:\n{result.stdout}{result.stderr}"


def test_the_readme_has_examples() -> None:
    assert ROOT / "README.md" in WITH_CODE
