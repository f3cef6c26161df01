"""What axe-core finds: things on a page that a keyboard, a screen reader or some eyes cannot use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


def violations(page: Any, rules: Sequence[str] = ()) -> list[str]:
    """Return what is wrong: the rule, and the first place.

    Args:
        page: of playwright.
        rules: those to check; empty for all.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    # on a gradient axe judges no contrast, and those of tables are shadows at their edges
    page.evaluate(
        "document.querySelectorAll('.scroll').forEach((table) => { table.style.background = 'none'; })"
    )
    found = page.evaluate("options => axe.run(document, options)", options)
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found["violations"]]


@cache
def _source() -> str:
    return Path(__file__).with_name("axe.min.js").read_text()
