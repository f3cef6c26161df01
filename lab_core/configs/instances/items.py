"""The handle that `Configs.item` gives, and the descriptor behind `conf.item`."""

from __future__ import annotations

from typing import Any, overload

from lab_core.configs.classes.marker import ConfigsMarker
from lab_core.configs.classes.spec import spec_of
from lab_core.configs.instances.state import Instance
from lab_core.configs.schema.suggest import did_you_mean
from lab_core.errors import ConfigError, Violation


class Item:
    """An item of a config class: what `calc`, `aggregate` and `set_hyperparams` take.

    Attributes:
        key: its name; dotted when it was reached through a nested config class.
    """

    __slots__ = ("_owner", "key")

    def __init__(self, owner: type[ConfigsMarker], key: str) -> None:
        self._owner = owner
        self.key = key

    def __getattr__(self, name: str) -> Item:
        if name.startswith("_"):
            raise AttributeError(name)
        known = spec_of(self._owner).schema.keys()
        key = f"{self.key}.{name}"
        if key not in known:
            prefix = f"{self.key}."
            inner = [k.removeprefix(prefix) for k in known if k.startswith(prefix)]
            raise AttributeError(f"{self!r} has no item {name!r}{did_you_mean(name, inner)}")
        return Item(self._owner, key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"{self._owner.__name__}.{self.key}"


class ItemAttribute:
    """Gives the item on the class and its value on an instance."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, conf: None, owner: type[ConfigsMarker]) -> Item: ...
    @overload
    def __get__(self, conf: Instance, owner: type[ConfigsMarker]) -> Any: ...
    def __get__(self, conf: Instance | None, owner: type[ConfigsMarker]) -> Any:
        if conf is None:
            return Item(owner, self.name)
        return conf._lab_state.read(conf._lab_prefix + self.name)

    def __set__(self, conf: Instance, value: object) -> None:
        conf._lab_state.assign(conf._lab_prefix + self.name, value)


def key_of(item: object) -> str:
    """Return the key of an item, given as an item or by name.

    Raises:
        ConfigError: If it is neither.
    """
    if isinstance(item, Item):
        return item.key
    if isinstance(item, str) and item:
        return item
    raise ConfigError([Violation("", f"expected an item like Configs.epochs, got {item!r}")])
