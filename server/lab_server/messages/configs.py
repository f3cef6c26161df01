"""Config values, schemas and plans: between the wire and lab_core.configs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lab_rpc.v1 import config_pb2, experiment_pb2
from lab_server.messages import wire
from lab_server.messages.values import plan_item_to_proto, value_from_proto, value_to_proto
from lab_server.model.experiment import ExperimentEntry

if TYPE_CHECKING:
    from lab_core.configs import PlainValue, Plan, Schema, SchemaItem

# lab_core calls it by what it lists, the wire by what one value must be.
_RULES = {"choices": "choice"}


def overrides_from_proto(message: config_pb2.ConfigMessage) -> dict[str, PlainValue]:
    """Return the overrides of a config message, by key."""
    return {key: value_from_proto(value) for key, value in message.overrides.items()}


def run_order_from_proto(message: config_pb2.ConfigMessage) -> tuple[tuple[str, ...], ...]:
    """Return the run order of a config message."""
    return tuple(tuple(group.names) for group in message.run_order)


def run_order_to_proto(
    run_order: Iterable[str | Iterable[str]],
) -> list[config_pb2.RunOrderGroup]:
    """Return the groups of a run order, in which a lone name is a group of one."""
    return [
        config_pb2.RunOrderGroup(names=[group] if isinstance(group, str) else group)
        for group in run_order
    ]


def experiment_to_proto(entry: ExperimentEntry) -> experiment_pb2.Experiment:
    """Return what a list of experiments shows."""
    doc = entry.schema.doc.strip() if entry.schema else ""
    return experiment_pb2.Experiment(
        name=entry.name,
        summary=doc.partition("\n")[0],
        error=wire.text_of(entry.error),
        traceback=wire.text_of(entry.traceback),
    )


def schema_to_proto(schema: Schema) -> experiment_pb2.ExperimentSchema:
    """Return the schema of an experiment's configs."""
    return experiment_pb2.ExperimentSchema(
        doc=schema.doc,
        items=[_item_to_proto(item) for item in schema.items],
        run_targets=schema.run_targets,
        default_run_order=run_order_to_proto(schema.default_run_order),
    )


def plan_to_proto(experiment: str, plan: Plan) -> config_pb2.Plan:
    """Return a resolved config message."""
    return config_pb2.Plan(
        experiment=experiment,
        items=[plan_item_to_proto(item) for item in plan.items],
        run_order=run_order_to_proto(plan.run_order),
        hash=plan.hash,
    )


def _item_to_proto(item: SchemaItem) -> config_pb2.ConfigItem:
    return config_pb2.ConfigItem(
        key=item.key,
        type=item.type,
        default_value=value_to_proto(item.default) if item.has_plain_default else None,
        options=item.options,
        doc=item.doc,
        constraints=[
            config_pb2.Constraint(rule=_RULES.get(rule, rule), operand=value_to_proto(operand))
            for rule, operand in item.constraints.items()
        ],
        is_hyperparam=item.is_hyperparam,
        is_required=item.required,
    )
