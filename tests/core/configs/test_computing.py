from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest

from lab_core.configs import BaseConfigs, ConfigError, calculate, computed, to_yaml_data


class Model:
    def __init__(self) -> None:
        self.width = 3


class Main:
    def __init__(self, c: Configs) -> None:
        self.c = c
        self.steps = c.steps

    def __call__(self) -> str:
        return f"{self.steps} steps"


class Configs(BaseConfigs):
    epochs: int = 10
    batches: int = 100
    steps: int
    model: Model
    main: Main
    unused: object


calls: list[str] = []


@Configs.calc(Configs.steps)
def steps(c: Configs) -> int:
    calls.append("steps")
    return c.epochs * c.batches


@Configs.calc(Configs.unused)
def unused(c: Configs) -> object:
    raise AssertionError("nobody needs it")


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def reads(conf: BaseConfigs, key: str) -> list[str]:
    found: list[str] = to_yaml_data(conf)["items"][key].get("reads", [])
    return found


def test_values_are_computed_when_they_are_first_read_and_once() -> None:
    conf = Configs()
    assert calls == []
    assert conf.steps == conf.steps == 1000
    assert calls == ["steps"]


def test_what_a_computation_reads_is_recorded() -> None:
    conf = calculate(Configs)
    assert reads(conf, "main") == ["steps"]
    assert reads(conf, "steps") == ["epochs", "batches"]


def test_configs_may_be_aliased_passed_on_and_read_by_getattr() -> None:
    class Local(BaseConfigs):
        a: int = 1
        b: int = 2
        total: int

    def helper(configs: Local, names: list[str]) -> int:
        return sum(getattr(configs, name) for name in names)

    @Local.calc(Local.total)
    def total(c: Local) -> int:
        alias = c
        return helper(alias, ["a", "b"])

    conf = Local()
    assert conf.total == 3
    assert reads(conf, "total") == ["a", "b"]


def test_a_value_read_a_second_time_is_still_recorded() -> None:
    class Local(BaseConfigs):
        a: int = 1
        b: int
        c: int

    Local.calc(Local.b)(lambda conf: conf.a)
    Local.calc(Local.c)(lambda conf: conf.a)
    # a lambda's name is no option's
    conf = calculate(Local, None, ["b", "c"])
    assert reads(conf, "b") == reads(conf, "c") == ["a"]


def test_classes_build_themselves_from_nothing_or_from_the_configs() -> None:
    conf = Configs()
    assert conf.model.width == 3
    assert conf.main() == "1000 steps"
    assert conf.main.c is conf


def test_a_class_with_other_needs_does_not_build_itself() -> None:
    class Needy:
        def __init__(self, width: int) -> None: ...

    class Anything:
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    class Local(BaseConfigs):
        needy: Needy
        anything: Anything
        number: int

    for name in ("needy", "anything", "number"):
        with pytest.raises(ConfigError, match=f"'{name}' has no value"):
            getattr(Local(), name)


def test_one_function_computes_several_items() -> None:
    class Local(BaseConfigs):
        train: str
        valid: str

    @Local.calc([Local.train, Local.valid])
    def split(c: Local) -> tuple[str, str]:
        calls.append("split")
        return "t", "v"

    conf = Local()
    assert (conf.valid, conf.train) == ("v", "t")
    assert calls == ["split"]


def test_a_function_of_several_items_must_return_as_many_values() -> None:
    class Local(BaseConfigs):
        train: str
        valid: str

    @Local.calc([Local.train, Local.valid])
    def split(c: Local) -> str:
        return "only one"

    with pytest.raises(ConfigError, match="'split' computes train, valid, so it must return 2 val"):
        _ = Local().train


def test_setting_an_item_after_it_was_read_is_an_error() -> None:
    conf = Configs()
    conf.epochs = 2
    assert conf.steps == 200
    with pytest.raises(ConfigError, match="'epochs' was read already by 'steps'"):
        conf.epochs = 3
    with pytest.raises(ConfigError, match="'epochs' was read already"):
        calculate(conf, {"epochs": 3})
    assert conf.epochs == 2


def test_calculating_again_with_the_same_overrides_is_fine() -> None:
    conf = calculate(Configs, {"epochs": 2})
    assert calculate(conf, {"epochs": 2}).steps == 200


def test_setting_an_unknown_item_suggests_the_near_one() -> None:
    conf: Any = Configs()
    with pytest.raises(ConfigError, match=r"unknown config 'epohcs'; did you mean 'epochs'?"):
        conf.epohcs = 3


def test_a_cycle_is_told_with_its_chain() -> None:
    class Local(BaseConfigs):
        a: int
        b: int
        c: int

    Local.calc(Local.a)(lambda conf: conf.b)
    Local.calc(Local.b)(lambda conf: conf.c)
    Local.calc(Local.c)(lambda conf: conf.a)
    with pytest.raises(ConfigError, match="'a' depends on itself: a -> b -> c -> a"):
        _ = Local().a
    with pytest.raises(ConfigError, match="'b' depends on itself: b -> c -> a -> b"):
        calculate(Local, None, ["b"])


def test_a_missing_value_is_told_with_who_needs_it_and_only_then() -> None:
    class Local(BaseConfigs):
        width: int
        size: int

    Local.calc(Local.size)(lambda conf: conf.width * 2)
    conf = calculate(Local)
    with pytest.raises(ConfigError, match="'width', which 'size' needs, has no value"):
        _ = conf.size
    conf.width = 3
    assert conf.size == 6


def test_nothing_is_computed_that_the_run_order_does_not_need() -> None:
    conf = calculate(Configs, None, ["steps"])
    assert sorted(computed(conf)) == ["batches", "epochs", "steps"]


def test_the_run_order_is_kept_and_may_name_things_twice_and_run_targets() -> None:
    class Local(BaseConfigs):
        def run(self) -> None:
            raise AssertionError("checked, not called")

    for name in ("set_seed", "data", "model"):
        Local.calc(name)(lambda name=name: calls.append(name))
    conf = calculate(Local, None, ["model", ["set_seed", "data"], "model", "run"])
    assert calls == ["model", "set_seed", "data"]
    assert to_yaml_data(conf)["run_order"] == ["model", "set_seed", "data", "model", "run"]


def test_the_default_run_order_seeds_and_then_makes_main() -> None:
    class Local(Configs):
        pass

    @Local.calc()
    def set_seed() -> None:
        calls.append("set_seed")

    conf = calculate(Local)
    assert calls == ["set_seed", "steps"]
    assert "main" in computed(conf)


def test_an_error_of_a_function_comes_out_with_the_item_it_computed() -> None:
    class Local(BaseConfigs):
        inner: int
        outer: int

    @Local.calc(Local.inner)
    def inner(c: Local) -> int:
        return 1 // 0

    Local.calc(Local.outer)(lambda conf: conf.inner)
    conf = Local()
    with pytest.raises(ZeroDivisionError) as caught:
        _ = conf.outer
    assert caught.value.__notes__ == [
        "while computing the config 'inner'",
        "while computing the config 'outer'",
    ]
    with pytest.raises(ZeroDivisionError):
        _ = conf.outer  # not taken for a cycle


def test_instances_share_no_list() -> None:
    class Local(BaseConfigs):
        widths: list[int] = [1, 2]  # noqa: RUF012

    first, second = Local(), Local()
    first.widths.append(3)
    assert second.widths == [1, 2]
    assert Local().widths == [1, 2]


def test_threads_compute_an_item_once() -> None:
    started = threading.Event()
    release = threading.Event()

    class Local(BaseConfigs):
        slow: int

    @Local.calc(Local.slow)
    def slow(c: Local) -> int:
        calls.append("slow")
        started.set()
        assert release.wait(10)
        return 1

    conf = Local()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(conf.slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    release.set()
    for thread in threads:
        thread.join(10)
    assert found == [1, 1, 1]
    assert calls == ["slow"]


def test_an_instance_pickles_with_what_it_has_computed() -> None:
    conf = calculate(Configs, {"epochs": 2}, ["steps"])
    again = pickle.loads(pickle.dumps(conf))
    calls.clear()
    assert (again.steps, again.epochs) == (200, 2)
    assert calls == []
    assert again.main() == "200 steps"


def test_a_copied_model_keeps_its_configs() -> None:
    conf = Configs()
    assert copy.deepcopy(conf.main).c is conf


def test_a_user_written_constructor_needs_no_super_call() -> None:
    class Local(BaseConfigs):
        epochs: int = 1

        def __init__(self) -> None:
            self.epochs = 4

    assert calculate(Local).epochs == 4


def test_a_function_of_several_items_that_reads_one_of_them_is_a_cycle() -> None:
    class Local(BaseConfigs):
        train: str
        valid: str

    @Local.calc([Local.train, Local.valid])
    def split(c: Local) -> tuple[str, str]:
        calls.append("split")
        return c.valid, "v"

    with pytest.raises(ConfigError, match="'valid' depends on itself"):
        _ = Local().train
    assert calls == ["split"]
