"""The API's document, OpenAPI 3.1: made from the table of routes and the messages of the RPCs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

import lab_server
from lab_server.api.comments import comments
from lab_server.api.json_messages import (
    NOT_FINITE,
    TIMESTAMP,
    VALUE,
    Field,
    MessageType,
    enum_names,
    integer_range,
    is_map,
)
from lab_server.api.routes import PREFIX, Route

_ERRORS: Final = {
    "400": "The request is not valid; says everything that is wrong with it.",
    "401": "It has no token, or none that is valid.",
    "403": "The caller's role does not allow it, the run is another's, or another site's page asks.",
    "404": "There is no such thing.",
    "405": "The path has other methods.",
    "408": "The body does not come.",
    "409": "The run is in no state for it, or the idempotency key was used for something else.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "421": "The server does not know itself by this name.",
    "429": "A limit is reached, or the queue is full.",
    "503": "The server is starting or stopping, or its disk is full.",
}
_NUMBER: Final = {"anyOf": [{"type": "number"}, {"enum": list(NOT_FINITE)}]}
_CONFIG_VALUE: Final = {
    "description": "A config's value: null, a truth value, a number, text, or a list of values.",
    "anyOf": [
        {"type": ["null", "boolean", "number", "string"]},
        {"type": "array", "items": {"$ref": "#/components/schemas/Value"}},
        {
            "type": "object",
            "properties": {"float": {"enum": list(NOT_FINITE)}},
            "required": ["float"],
            "additionalProperties": False,
        },
    ],
}


def document(routes: Sequence[Route], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document.

    Args:
        routes: those that are RPCs.
        others: the paths of the rest, as the document has them.
    """
    schemas = _Schemas()
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.verb.lower()] = _operation(route, schemas)
    for path, operations in others.items():
        for verb, operation in operations.items():
            answer = {"responses": {**error_answers(), **operation["responses"]}}
            paths.setdefault(path, {})[verb] = operation | answer
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lab-train",
            "version": lab_server.__version__,
            "description": "What lab-server's dashboard uses. Its own paths, roles, limits and errors are "
            "those of the RPCs of the same names; POST needs Content-Type: application/json.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.found.items())) | {"Error": _error_schema()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def operation_of(
    route: Route, change_body: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the description of a route whose request is its RPC's, or nearly.

    Args:
        route: the route.
        change_body: returns the schema of the body from that of the RPC's request.
    """
    operation = _operation(route, _Schemas())
    if change_body is not None:
        media = operation["requestBody"]["content"]["application/json"]
        media["schema"] = change_body(media["schema"])
    return operation


def error_answers() -> dict[str, Any]:
    """Return what any operation may answer when it fails."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        status: {"description": text, "content": content}
        for status, text in _ERRORS.items()
        if status != "405"
    }


def path_parameter(name: str, text: str) -> dict[str, Any]:
    """Return the description of a part of a path."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string"},
    }


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    request = route.new_request().DESCRIPTOR
    parameters = [
        path_parameter(name, comments().get((request.name, name), "")) for name in route.path_fields
    ]
    answer = {"schema": schemas.reference(route.response)}
    operation: dict[str, Any] = {
        "operationId": route.path.removeprefix(PREFIX).strip("/").replace("/", "-")
        + "-"
        + route.verb,
        "summary": route.summary,
        "description": f"The RPC {route.rpc}.",
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": answer}},
            **error_answers(),
        },
    }
    if route.verb == "GET":
        parameters += [_query_parameter(field, schemas) for field in route.fields]
    else:
        body = schemas.message(request, [field.name for field in route.fields])
        content = {"application/json": {"schema": body}}
        operation["requestBody"] = {"required": False, "content": content}
    return operation


def _query_parameter(field: Field, schemas: _Schemas) -> dict[str, Any]:
    return {
        "name": field.name,
        "in": "query",
        "required": False,
        "description": comments().get((field.containing_type.name, field.name), ""),
        "schema": schemas.field(field),
        "style": "form",
        "explode": True,
    }


class _Schemas:
    """The messages' schemas, each made when it is first referred to."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def reference(self, descriptor: MessageType) -> dict[str, Any]:
        """Return a reference to a message's schema."""
        if descriptor.full_name == TIMESTAMP:
            return {"type": "string", "format": "date-time"}
        if descriptor.name not in self.found:
            self.found[descriptor.name] = {}  # for messages that contain themselves
            is_value = descriptor.full_name == VALUE
            schema = _CONFIG_VALUE if is_value else self.message(descriptor)
            self.found[descriptor.name] = schema
        return {"$ref": f"#/components/schemas/{descriptor.name}"}

    def message(
        self, descriptor: MessageType, names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Return the schema of a message, or of some of its fields."""
        return {
            "type": "object",
            "description": comments().get((descriptor.name, ""), ""),
            "properties": {
                field.name: self._described(field)
                for field in descriptor.fields
                if names is None or field.name in names
            },
            "additionalProperties": False,
        }

    def field(self, field: Field) -> dict[str, Any]:
        """Return the schema of a field."""
        if is_map(field):
            values = field.message_type.fields_by_name["value"]
            return {"type": "object", "additionalProperties": self._one(values)}
        if field.is_repeated:
            return {"type": "array", "items": self._one(field)}
        return self._one(field)

    def _described(self, field: Field) -> dict[str, Any]:
        schema = self.field(field)
        is_enum = field.enum_type is not None and not field.is_repeated
        if field.has_presence or is_enum:
            schema = {"anyOf": [schema, {"type": "null"}]}
        text = comments().get((field.containing_type.name, field.name), "")
        return schema | ({"description": text} if text else {})

    def _one(self, field: Field) -> dict[str, Any]:
        if field.message_type is not None:
            return self.reference(field.message_type)
        if field.enum_type is not None:
            return {"type": "string", "enum": enum_names(field.enum_type)}
        match field.type:
            case FieldDescriptor.TYPE_BOOL:
                return {"type": "boolean"}
            case FieldDescriptor.TYPE_STRING:
                return {"type": "string"}
            case FieldDescriptor.TYPE_BYTES:
                return {"type": "string", "contentEncoding": "base64"}
            case FieldDescriptor.TYPE_DOUBLE:
                return dict(_NUMBER)
        least, most = integer_range(field) or (0, 0)
        return {"type": "integer", "minimum": least, "maximum": most}


def _error_schema() -> dict[str, Any]:
    violation = {
        "type": "object",
        "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
        "required": ["field", "message"],
    }
    error = {
        "type": "object",
        "properties": {
            "code": {
                "type": "string",
                "description": "gRPC's code, or REFUSED for what HTTP refuses.",
            },
            "reason": {"type": "string", "description": "Tells apart errors of the same code."},
            "message": {
                "type": "string",
                "description": "What is wrong and what to do, for people.",
            },
            "violations": {"type": "array", "items": violation},
        },
        "required": ["code", "reason", "message", "violations"],
    }
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
