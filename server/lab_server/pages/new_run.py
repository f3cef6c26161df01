"""A new run: the experiment's schema as a form, every violation beside its field, and its plan."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from lab_core.errors import ConfigError, LabError
from lab_rpc.v1 import config_pb2, experiment_pb2, run_pb2, training_service_pb2
from lab_server.api.errors import Refused, error_json, http_status
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.errors import InvalidRequest
from lab_server.messages.values import value_from_proto, value_to_proto
from lab_server.pages.forms import Form, parse_value, read_form
from lab_server.pages.render import Pages, config_text
from lab_server.rpc.site_parts import SiteParts

pb = training_service_pb2

_CONFIG: Final = "c."
_RULES: Final = {
    "ge": "≥",
    "gt": ">",
    "le": "≤",
    "lt": "<",
    "multiple_of": "a multiple of",
    "min_length": "length ≥",
    "max_length": "length ≤",
}
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A run as the form has it.

    Attributes:
        texts: what was written into the fields of configs, by key; "" leaves the default.
        upload_id: the code that was sent and has the experiment; "" for one of the server's own.
        parent: the run that a fork continues, None for a run that starts fresh.
        step: of the parent's checkpoint; 0 is the newest.
    """

    experiment: str
    texts: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    tags: str = ""
    notes: str = ""
    upload_id: str = ""
    parent: run_pb2.Run | None = None
    step: int = 0


class NewRunPage:
    """Serves `/new`."""

    def __init__(self, gate: Gate, pages: Pages, parts: SiteParts) -> None:
        self._gate = gate
        self._pages = pages
        self._service = parts.service

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the experiments, or the form of one, filled as a run that is named in the address."""
        self._gate.admit(request, method_of("GetExperiment"))
        query = request.query
        like = query.get("parent") or query.get("like")
        if like:
            run = (await self._service.GetRun(pb.GetRunRequest(run_id=like), None)).run
            return await self._form(_draft_like(run, query.get("step", ""), "parent" in query))
        if experiment := query.get("experiment"):
            return await self._form(Draft(experiment))
        found = await self._service.ListExperiments(pb.ListExperimentsRequest(), None)
        return self._pages.page("experiments.html", {"experiments": found.experiments})

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Check what was written, and create and start the run if asked to."""
        form = await read_form(request)
        is_start = form.text("action") == "start"
        self._gate.admit(request, method_of("CreateRun" if is_start else "PlanRun"))
        draft = await self._draft(form)
        schema = await self._schema(draft)
        config = _config_of(draft, schema)
        parent, options = None, run_pb2.RunOptions()
        if draft.parent is not None:
            parent = run_pb2.RunParent(run_id=draft.parent.id, step=draft.step)
            options = draft.parent.options
        try:
            if not is_start:
                wanted = pb.PlanRunRequest(
                    experiment=draft.experiment,
                    config=config,
                    parent=parent,
                    upload_id=draft.upload_id,
                    options=options,
                )
                return await self._form(
                    draft, plan=(await self._service.PlanRun(wanted, None)).plan
                )
            created = await self._service.CreateRun(
                pb.CreateRunRequest(
                    experiment=draft.experiment,
                    config=config,
                    name=draft.name,
                    tags=[tag.strip() for tag in draft.tags.split(",") if tag.strip()],
                    notes=draft.notes,
                    parent=parent,
                    upload_id=draft.upload_id,
                    options=options,
                    idempotency_key=form.text("key"),
                ),
                None,
            )
            self._gate.admit(request, method_of("StartRun"))
            start = pb.StartRunRequest(run_id=created.run.id, idempotency_key=form.text("key"))
            await self._service.StartRun(start, None)
        except LabError as error:
            return await self._form(draft, error=error)
        raise web.HTTPSeeOther(f"/runs/{created.run.id}")

    async def _draft(self, form: Form) -> Draft:
        parent = None
        if parent_id := form.text("parent"):
            parent = (await self._service.GetRun(pb.GetRunRequest(run_id=parent_id), None)).run
        return Draft(
            parent.experiment if parent is not None else form.text("experiment"),
            {n.removeprefix(_CONFIG): form.text(n) for n in form if n.startswith(_CONFIG)},
            name=form.text("name"),
            tags=form.text("tags"),
            notes=form.text("notes"),
            upload_id=parent.upload_id if parent is not None else form.text("upload"),
            parent=parent,
            step=_step(form.text("step")),
        )

    async def _schema(self, draft: Draft) -> experiment_pb2.ExperimentSchema:
        wanted = pb.GetExperimentRequest(name=draft.experiment, upload_id=draft.upload_id)
        found = await self._service.GetExperiment(wanted, None)
        if found.experiment.error:
            sentence = f"{draft.experiment} cannot be run: {found.experiment.error}"
            raise Refused(409, "BROKEN_EXPERIMENT", sentence)
        return found.schema

    async def _form(
        self, draft: Draft, *, plan: config_pb2.Plan | None = None, error: LabError | None = None
    ) -> web.Response:
        schema = await self._schema(draft)
        violations = error.violations if isinstance(error, ConfigError | InvalidRequest) else ()
        of_field: dict[str, list[str]] = {}
        for violation in violations:
            of_field.setdefault(violation.key, []).append(violation.message)
        fields = [
            {"id": f"c-{index}", **_field(item, draft, of_field.pop(item.key, []))}
            for index, item in enumerate(schema.items)
        ]
        others = [message for messages in of_field.values() for message in messages]
        if error is not None and not violations:
            others = [error_json(error)["error"]["message"]]
        values = {
            "draft": draft,
            "doc": schema.doc,
            "fields": [f for f in fields if f["kind"] != "object"],
            "fixed": [f for f in fields if f["kind"] == "object"],
            "errors": others,
            "num_wrong": len(violations),
            "plan": plan,
            "key": _new_key(),
        }
        return self._pages.page("new.html", values, status=http_status(error) if error else 200)


def _draft_like(run: run_pb2.Run, step: str, is_fork: bool) -> Draft:
    return Draft(
        run.experiment,
        {key: config_text(value) for key, value in run.config.overrides.items()},
        name=run.name,
        tags=", ".join(run.tags),
        upload_id=run.upload_id,
        parent=run if is_fork else None,
        step=_step(step),
    )


def _config_of(draft: Draft, schema: experiment_pb2.ExperimentSchema) -> config_pb2.ConfigMessage:
    """Return what the form sets; what is empty keeps its default, and '""' is an empty text."""
    types = {item.key: item.type for item in schema.items}
    config = config_pb2.ConfigMessage()
    if draft.parent is not None:
        config.run_order.extend(draft.parent.config.run_order)
        config.models.extend(draft.parent.config.models)
    for key, text in draft.texts.items():
        if text:
            value = "" if text == '""' else parse_value(text, types.get(key, ""))
            config.overrides[key].CopyFrom(value_to_proto(value))
    return config


def _field(item: config_pb2.ConfigItem, draft: Draft, errors: list[str]) -> dict[str, Any]:
    default = (
        config_text(value_from_proto(item.default_value)) if item.HasField("default_value") else ""
    )
    choices = list(item.options) or _choices(item)
    is_settable = bool(choices) or not item.type.startswith(("object", "any"))
    # an item with options may have a plain value, too, unless only code can make one
    kinds = item.type.split(" | ")
    is_choice = (
        bool(choices)
        and kinds[0] in ("object", "any", "bool", "str")
        and not any(kind.startswith(("int", "float", "list")) for kind in kinds)
    )
    return {
        "key": item.key,
        "kind": "choice" if is_choice else "text" if is_settable else "object",
        "type": item.type,
        "default": default,
        "choices": choices,
        "text": draft.texts.get(item.key, ""),
        "doc": item.doc,
        "rules": ", ".join(
            f"{_RULES.get(rule.rule, rule.rule)} {config_text(value_from_proto(rule.operand))}"
            for rule in item.constraints
            if rule.rule != "choice"
        ),
        "is_required": item.is_required,
        "errors": errors,
    }


def _choices(item: config_pb2.ConfigItem) -> list[str]:
    if item.type == "bool":
        return ["true", "false"]
    for rule in item.constraints:
        if rule.rule == "choice":
            values = value_from_proto(rule.operand)
            return [config_text(value) for value in values] if isinstance(values, list) else []
    return []


def _step(text: str) -> int:
    if not text:
        return 0
    if not text.isdecimal() or int(text) > _INT64_MAX:
        raise Refused(400, "BAD_STEP", f"step must be a whole number, got {text[:100]!r}")
    return int(text)


def _new_key() -> str:
    # a form that is sent twice makes one run
    return f"form-{secrets.token_hex(8)}"
