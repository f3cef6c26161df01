from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from lab_core.configs import BaseConfigs, ConfigError, Item, calculate, plan, schema

if TYPE_CHECKING:
    from decimal import Decimal as Unknown


class Data(BaseConfigs):
    batch_size: int = 64
    loader: object

    @classmethod
    def from_file(cls) -> None: ...

    @property
    def half(self) -> int:
        return self.batch_size // 2


@Data.calc(Data.loader)
def loader(c: Data) -> str:
    return f"loader of {c.batch_size}"


def test_annotated_and_assigned_public_attributes_are_items() -> None:
    class Configs(BaseConfigs):
        epochs: int = 10
        steps: int
        momentum = 0.5
        _hidden = 1
        shared: ClassVar[int] = 3

    assert schema(Configs).keys() == ["epochs", "steps", "momentum"]
    assert isinstance(Configs.epochs, Item)
    assert Configs.epochs.key == "epochs"
    assert Configs.shared == 3
    assert (Configs().epochs, Configs().momentum) == (10, 0.5)


def test_items_of_the_nearest_class_come_first_each_class_as_declared() -> None:
    class Loop(BaseConfigs):
        loop_count: int = 10
        loop_step: int = 1

    class Seed(BaseConfigs):
        seed: int = 5

    class Tuned(Loop, Seed):
        rate: float = 0.1
        epochs: int = 3
        loop_step: int = 2

    class Configs(Tuned):
        width: int = 8
        epochs: int = 4

    keys = ["width", "epochs", "rate", "loop_step", "loop_count", "seed"]
    assert schema(Configs).keys() == keys
    assert [item.key for item in plan(schema(Configs), {}).items] == keys


def test_an_item_that_is_computed_as_none_is_an_object() -> None:
    class Configs(BaseConfigs):
        set_seed: None
        nothing: None = None

    @Configs.calc(Configs.set_seed)
    def set_seed() -> None: ...

    types = {item.key: item.type for item in schema(Configs).items}
    assert types == {"set_seed": "object", "nothing": "None"}


def test_methods_properties_and_inner_classes_are_no_items() -> None:
    class Configs(BaseConfigs):
        class Inner:
            pass

        def run(self) -> None: ...

        def step(self, size: int) -> None: ...

        @staticmethod
        def helper() -> None: ...

    found = schema(Configs)
    assert found.keys() == []
    assert found.run_targets == ("run",)
    assert Data().half == 32


def test_a_function_without_a_declared_item_declares_it() -> None:
    class Configs(BaseConfigs):
        pass

    @Configs.calc()
    def seeded(c: Configs) -> int:
        return 5

    @Configs.calc("named")
    def some_function() -> str:
        return "without configs"

    @Configs.calc()
    def set_seed() -> None: ...

    conf: Any = Configs()
    assert schema(Configs).by_key["set_seed"].type == "object"
    assert (conf.seeded, conf.named) == (5, "without configs")
    assert schema(Configs).by_key["seeded"].type == "int"


def test_calc_works_without_parentheses() -> None:
    class Configs(BaseConfigs):
        steps: int

    @Configs.calc
    def steps(c: Configs) -> int:
        return 7

    assert Configs().steps == 7


def test_a_child_takes_over_values_options_and_marks() -> None:
    class Child(Data):
        batch_size = 8

    assert Child().loader == "loader of 8"
    assert Data().loader == "loader of 64"


def test_what_a_child_declares_or_registers_never_changes_its_parent() -> None:
    class Child(Data):
        extra: int = 1

    @Child.calc(Data.loader)
    def special_loader(c: Child) -> str:
        return "special"

    Child.set_hyperparams(Child.batch_size)
    Child.batch_size = 1

    assert Child().loader == "special"
    assert schema(Child).by_key["loader"].options == ("special_loader", "loader")
    assert schema(Data).keys() == ["batch_size", "loader"]
    assert schema(Data).by_key["loader"].options == ("loader",)
    assert not schema(Data).by_key["batch_size"].is_hyperparam
    assert Data().batch_size == 64


def test_inheritance_follows_the_method_resolution_order() -> None:
    class A(BaseConfigs):
        value: int = 1

    class B(A):
        value = 2

    class C(A):
        value = 3

    class D(B, C):
        pass

    class E(C, B):
        pass

    assert D().value == 2
    assert E().value == 3


def test_the_default_option_is_that_of_the_nearest_class() -> None:
    class A(BaseConfigs):
        model: object

    class B(A):
        pass

    class C(A):
        pass

    class D(B, C):
        pass

    for cls, name in ((A, "of_a"), (B, "of_b"), (C, "of_c")):
        cls.calc(A.model, name)(lambda name=name: name)

    assert schema(D).by_key["model"].options == ("of_b", "of_c", "of_a")
    assert calculate(D, {"model": "of_c"}).model == "of_c"


def test_an_option_of_the_same_name_replaces_the_parents() -> None:
    class Child(Data):
        pass

    @Child.calc(Child.loader, "loader")
    def another(c: Child) -> str:
        return "another"

    assert Child().loader == "another"
    assert Data().loader == "loader of 64"


def test_a_mixin_that_is_no_config_class_declares_items_too() -> None:
    class Mixin:
        width: int = 4

    class Configs(Mixin, BaseConfigs):
        depth: int = 2

    conf = calculate(Configs, {"width": 5})
    assert (conf.width, conf.depth) == (5, 2)
    assert Mixin.width == 4


def test_a_method_of_a_child_hides_the_item() -> None:
    class Child(Data):
        def loader(self) -> str:  # type: ignore[override]
            return "method"

    assert "loader" not in schema(Child).by_key
    assert Child().loader() == "method"


def test_an_annotation_that_cannot_be_evaluated_is_an_object() -> None:
    class Configs(BaseConfigs):
        model: Unknown
        width: Unknown = 3  # type: ignore[assignment]

    found = schema(Configs).by_key
    assert (found["model"].type, found["model"].required) == ("object", True)
    assert found["width"].type == "int"


def test_an_annotation_may_name_a_class_defined_later() -> None:
    before = schema(Forward)
    assert before.by_key["main"].type == "object"
    assert Forward().main.c.epochs == 2


class Forward(BaseConfigs):
    epochs: Final = 2
    main: Later


class Later:
    def __init__(self, c: Forward) -> None:
        self.c = c


def test_an_item_cannot_be_named_as_a_method_of_every_config_class() -> None:
    with pytest.raises(ConfigError, match="'check' is a method of every config class; rename it"):

        class Configs(BaseConfigs):
            check: int = 3  # type: ignore[assignment]


def test_registering_for_an_unknown_nested_item_says_so() -> None:
    class Configs(BaseConfigs):
        data: Data

    with pytest.raises(AttributeError, match="did you mean 'loader'"):
        _ = Configs.data.loder  # type: ignore[attr-defined]

    Configs.set_hyperparams("epocs")
    with pytest.raises(ConfigError, match="'epocs', but has no such item"):
        schema(Configs)


def test_a_class_value_can_be_assigned_later() -> None:
    class Configs(BaseConfigs):
        epochs: int = 1

    Configs.epochs = 3
    assert Configs().epochs == 3
    assert isinstance(Configs.epochs, Item)
