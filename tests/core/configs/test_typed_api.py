from __future__ import annotations

import pathlib

import pytest


@pytest.mark.slow
def test_a_type_checker_knows_the_types_of_config_items(tmp_path: pathlib.Path) -> None:
    api = pytest.importorskip("mypy.api")
    root = pathlib.Path(__file__).parents[3]
    report, errors, status = api.run(
        [
            f"--config-file={root / 'pyproject.toml'}",
            f"--cache-dir={tmp_path}",
            str(pathlib.Path(__file__).with_name("typed_api.py")),
        ]
    )
    assert (status, errors) == (0, ""), report
