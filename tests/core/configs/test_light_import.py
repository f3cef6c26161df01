from __future__ import annotations

import subprocess
import sys


def test_configs_import_neither_torch_nor_numpy_nor_yaml() -> None:
    code = (
        "import sys; import lab_core.configs, lab_core.errors;"
        "print([m for m in ('torch', 'numpy', 'yaml', 'rich', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
