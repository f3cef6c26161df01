"""Checks across items, run on plain values before anything expensive is built."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from lab_core.configs.classes.recipe import ItemRecipe
from lab_core.configs.classes.spec import Spec
from lab_core.configs.instances.base import BaseConfigs
from lab_core.configs.instances.state import State
from lab_core.configs.schema.plain import is_plain
from lab_core.errors import ConfigError, Violation


class _InvalidItemRead(Exception):
    """A check reads an item that already has a violation."""


class _NotPlain(Exception):
    """A check reads an item whose value is not plain data."""


class _ScratchState(State):
    """The values of a temporary instance: a check can only read plain items."""

    broken: Collection[str] = ()
    seen: dict[str, None]

    def read(self, key: str) -> Any:
        if key in self.broken:
            raise _InvalidItemRead
        source = self.spec.sources[key]
        if source.nested is not None:
            return super().read(key)
        if source.info.text == "object" and source.info.cls is not None:
            raise _NotPlain(key)
        self.seen[key] = None
        value = super().read(key)
        converted = source.info.convert is not None
        if not converted and not is_plain(value):
            raise _NotPlain(key)
        return value

    def _adopt(self, key: str, source: ItemRecipe, value: Any) -> Any:
        """Adopt a copy, as the real instance belongs to the real configs."""
        if source.nested is None or not isinstance(value, source.nested):
            return value
        copied = cast(BaseConfigs, value.__new__(type(value)))
        copied._lab_state.assigned.update(value._lab_given())
        return super()._adopt(key, source, copied)

    def leaves(self) -> str:
        """Return the keys that can be set, of all items that the read ones depend on."""
        pending, found = list(self.seen), dict[str, None]()
        while pending:
            key = pending.pop(0)
            if self.reads.get(key):
                pending[:0] = self.reads[key]
            else:
                found[key] = None
        return ", ".join(found)


def run_checks(
    spec: Spec, overrides: Mapping[str, Any], assigned: Mapping[str, Any], broken: Collection[str]
) -> list[Violation]:
    """Run every check on a temporary instance; skip those that read an item with a violation."""
    problems: list[Violation] = []
    if not spec.checks:
        return problems
    root = cast(BaseConfigs, spec.cls.__new__(spec.cls))
    state = _ScratchState(spec, root)
    state.broken = broken
    state.seen = {}
    state.assigned.update(assigned)
    state.override(overrides)
    vars(root)["_lab_own_state"] = state
    for name, prefix, function in spec.checks:
        state.seen = {}
        try:
            function(state.view(prefix))
        except _InvalidItemRead:
            continue
        except _NotPlain as error:
            sentence = f"the check {name!r} may only read plain items, and {error} is not plain"
            problems.append(Violation(str(error), sentence))
        except ConfigError as error:
            problems += error.violations
        except ValueError as error:
            problems.append(Violation(state.leaves(), str(error) or f"{name} failed"))
        except Exception as error:
            # a bug in the check; reported as a violation, as this message triggers it
            sentence = f"the check {name!r} failed with {type(error).__name__}: {error}"
            problems.append(Violation(state.leaves(), sentence))
    return problems
