"""The reference in docs/ says what the docstrings say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_is_in_step_with_the_docstrings() -> None:
    spec = importlib.util.spec_from_file_location("made", ROOT / "tools" / "client_reference.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    written = (ROOT / "docs" / "api" / "client.md").read_text()
    assert written == made.reference(), "run: python tools/client_reference.py"
