from __future__ import annotations

import yaml

from lab_core.configs import BaseConfigs, calculate, hyperparams, listing, to_yaml_data


class Model:
    def __repr__(self) -> str:
        return "Model(\n  (conv)\n)"


class Configs(BaseConfigs):
    epochs: int = 10
    rate: float = 1e-05
    optimizer: object
    model: Model
    unused: int = 3
    device: int = 0
    steps: int


@Configs.calc(Configs.optimizer)
def sgd(c: Configs) -> object:
    return ("sgd", c.rate, c.model)


@Configs.calc(Configs.optimizer)
def adam(c: Configs) -> object:
    return ("adam", c.rate)


@Configs.calc(Configs.steps)
def by_epoch(c: Configs) -> int:
    return c.epochs * 2


Configs.set_hyperparams(Configs.device, is_hyperparam=False)
Configs.set_hyperparams(Configs.steps)


def test_the_listing_shows_what_was_used_first_and_the_rest_last() -> None:
    conf = calculate(Configs, {"epochs": 3, "device": 1}, ["optimizer", "steps"])
    assert [str(row) for row in listing(conf)] == [
        "*epochs = 3",
        " rate = 1e-05",
        " optimizer = <tuple>  sgd  [adam]",
        " model = <Model>",
        " device = 1",
        "*steps = 6  by_epoch",
        " unused = 3",
    ]
    assert [row.key for row in listing(conf) if not row.is_used] == ["unused"]


def test_a_value_is_shown_on_one_short_line() -> None:
    conf = calculate({"text": "a\nb" * 100, "items": list(range(100))})
    for row in listing(conf):
        assert len(row.value) <= 80
        assert "\n" not in row.value


def test_the_saved_configs_keep_types_and_the_graph() -> None:
    conf = calculate(Configs, {"epochs": 3}, ["optimizer"])
    data = yaml.safe_load(yaml.safe_dump(to_yaml_data(conf), sort_keys=False))
    assert data == to_yaml_data(conf)
    items = data["items"]
    assert repr(items["rate"]["value"]) == "1e-05"
    assert items["epochs"] == {
        "value": 3,
        "origin": "override",
        "type": "int",
        "hyperparam": True,
        "used": True,
    } | ({"used": False} if "epochs" not in items["optimizer"]["reads"] else {})
    assert items["optimizer"]["option"] == "sgd"
    assert items["optimizer"]["options"] == ["sgd", "adam"]
    assert items["optimizer"]["reads"] == ["rate", "model"]
    assert items["model"]["text"] == "<Model>"
    assert data["run_order"] == ["optimizer"]


def test_hyperparameters_are_what_was_given_assigned_or_marked() -> None:
    conf = Configs()
    conf.rate = 0.5
    conf = calculate(conf, {"optimizer": "adam", "device": 3})
    assert hyperparams(conf) == {"rate": 0.5, "optimizer": "adam", "steps": "by_epoch"}
    assert conf.steps == 20
    assert hyperparams(conf)["steps"] == 20


def test_an_assigned_object_is_no_hyperparameter() -> None:
    conf = Configs()
    conf.model = Model()
    assert "model" not in hyperparams(calculate(conf))


def test_a_value_whose_repr_fails_is_shown_by_its_class() -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    conf = calculate({"model": Unprintable(), "point": object()})
    assert [str(row) for row in listing(conf)] == [" model = <Unprintable>", " point = <object>"]


def test_nested_configs_are_listed_by_their_items_and_their_option() -> None:
    class Inner(BaseConfigs):
        width: int = 3

    class Local(BaseConfigs):
        inner: Inner
        chosen: Inner

    @Local.calc(Local.chosen)
    def wide(c: Local) -> Inner:
        made = Inner()
        made.width = 9
        return made

    conf = calculate(Local, {"chosen": "wide"}, ["inner", "chosen"])
    assert (conf.inner.width, conf.chosen.width) == (3, 9)
    assert [str(row) for row in listing(conf)] == [
        " inner.width = 3",
        "*chosen = <Inner chosen>  wide",
        "*chosen.width = 9",
    ]
    assert hyperparams(conf) == {"chosen": "wide", "chosen.width": 9}
    assert list(to_yaml_data(conf)["items"]) == ["inner.width", "chosen", "chosen.width"]


def test_a_marked_object_is_a_hyperparameter_by_its_name() -> None:
    class Local(BaseConfigs):
        model: Model

    Local.set_hyperparams(Local.model)
    conf = calculate(Local, None, ["model"])
    assert hyperparams(conf) == {"model": "<Model>"}
