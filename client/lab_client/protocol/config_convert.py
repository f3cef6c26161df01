"""Between proto messages and values: configs, schemas and plans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError

from lab_client import configs
from lab_client.errors import ConfigError, Violation
from lab_client.protocol.calls import as_texts
from lab_rpc.v1 import (
    config_pb2,
    experiment_pb2,
)

_ORIGINS: dict[int, configs.ValueOrigin] = {
    config_pb2.VALUE_ORIGIN_DEFAULT: configs.ValueOrigin.DEFAULT,
    config_pb2.VALUE_ORIGIN_OVERRIDE: configs.ValueOrigin.OVERRIDE,
    config_pb2.VALUE_ORIGIN_OPTION: configs.ValueOrigin.OPTION,
    config_pb2.VALUE_ORIGIN_COMPUTED: configs.ValueOrigin.COMPUTED,
}
_INT64 = range(-(2**63), 2**63)


def to_config(
    overrides: Mapping[str, object] | None,
    run_order: configs.RunOrder | None = None,
    models: Iterable[str] | None = None,
) -> config_pb2.ConfigMessage:
    """Build a config message; all values that cannot travel are named in one ConfigError."""
    message = config_pb2.ConfigMessage()
    check_overrides(overrides)
    violations = []
    for key, value in (overrides or {}).items():
        if not isinstance(key, str):
            violations.append(Violation(str(key), f"config keys are text, got {key!r}"))
            continue
        try:
            # A message's map is filled by CopyFrom; null is a Value with nothing set.
            message.overrides[key].CopyFrom(to_value(value))
        except (TypeError, ValueError) as error:
            violations.append(Violation(key, f"{key}: {error}"))
        except (RecursionError, DecodeError):
            violations.append(Violation(key, f"{key}: lists are too deep in each other"))
    if isinstance(run_order, str) or not isinstance(run_order, Iterable | None):
        sentence = f"run_order is a list of names, such as ['set_seed', 'main'], got {run_order!r}"
        violations.append(Violation("run_order", sentence))
    else:
        for group in run_order or ():
            message.run_order.add(names=as_texts(group))
    message.models.extend(sorted(as_texts(models or ())))
    if violations:
        raise ConfigError(violations)
    return message


def check_overrides(overrides: object) -> None:
    """Raise a ConfigError when configs are no dict."""
    if overrides is not None and not isinstance(overrides, Mapping):
        sentence = f"configs are a dict, such as {{'epochs': 2}}, got {overrides!r}"
        raise ConfigError([Violation("", sentence)])


def to_value(value: object) -> config_pb2.Value:
    """Build a typed value.

    Raises:
        TypeError: if it is of no type that travels.
        ValueError: if it is a whole number beyond 64 bits.
    """
    match value:
        case None:
            return config_pb2.Value()
        case bool():
            return config_pb2.Value(bool_value=value)
        case int():
            if value not in _INT64:
                raise ValueError("a whole number must fit into 64 bits")
            return config_pb2.Value(int_value=value)
        case float():
            return config_pb2.Value(double_value=value)
        case str():
            return config_pb2.Value(string_value=value)
        case list() | tuple():
            items = [to_value(item) for item in value]
            return config_pb2.Value(list_value=config_pb2.ListValue(values=items))
    scalar = getattr(value, "item", None)  # numpy's scalars and torch's, without importing either
    if callable(scalar) and getattr(value, "shape", None) == ():
        return to_value(scalar())
    raise TypeError(
        f"{type(value).__name__} cannot be sent; use bool, int, float, str, None or a list of them"
    )


def value(message: config_pb2.Value) -> configs.PlainValue:
    """Return the plain value; null for none set."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "list_value":
        return [value(item) for item in message.list_value.values]
    plain: configs.PlainValue = getattr(message, kind)
    return plain


def run_order(groups: Iterable[config_pb2.RunOrderGroup]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of names."""
    return tuple(tuple(group.names) for group in groups)


def config_item(message: config_pb2.ConfigItem) -> configs.ConfigItem:
    """Return one item of a schema."""
    return configs.ConfigItem(
        key=message.key,
        type=message.type,
        default=value(message.default_value),
        options=tuple(message.options),
        doc=message.doc,
        constraints=tuple(
            configs.Constraint(item.rule, value(item.operand)) for item in message.constraints
        ),
        is_hyperparam=message.is_hyperparam,
        is_required=message.is_required,
    )


def experiment(message: experiment_pb2.Experiment) -> configs.ExperimentInfo:
    """Return an experiment as a list shows it."""
    return configs.ExperimentInfo(message.name, message.summary, message.error, message.traceback)


def schema(message: experiment_pb2.ExperimentSchema) -> configs.ExperimentSchema:
    """Return the schema of an experiment's configs."""
    return configs.ExperimentSchema(
        doc=message.doc,
        items=tuple(config_item(item) for item in message.items),
        run_targets=tuple(message.run_targets),
        default_run_order=run_order(message.default_run_order),
    )


def plan_item(message: config_pb2.PlanItem) -> configs.PlanItem:
    """Return one item of a plan."""
    return configs.PlanItem(
        key=message.key,
        value=value(message.value),
        origin=_ORIGINS.get(message.origin, configs.ValueOrigin.COMPUTED),
        option=message.option,
        other_options=tuple(message.other_options),
        is_hyperparam=message.is_hyperparam,
    )


def plan(message: config_pb2.Plan) -> configs.Plan:
    """Return a resolved config message."""
    return configs.Plan(
        experiment=message.experiment,
        items=tuple(plan_item(item) for item in message.items),
        run_order=run_order(message.run_order),
        hash=message.hash,
        start_step=message.start_step,
        total_steps=message.total_steps if message.HasField("total_steps") else None,
    )
