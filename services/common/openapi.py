"""Hot routes in the OpenAPI document: FastAPI does not see them, so their contracts are added to what it
generates.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from services.contracts import SUFFIX, schema

COMPONENTS = "#/components/schemas/"


def describe(app: FastAPI, path: str, summary: str, *, request: str, responses: tuple[str, ...]) -> None:
    """Add `POST path` to the app's OpenAPI document, with the contracts of its body and of its answers by name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name in (request, *responses, "problem"):
            _add(schemas, name)
        answers = [{"$ref": COMPONENTS + name} for name in responses]
        document["paths"][path] = {
            "post": {
                "summary": summary,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": COMPONENTS + request}}},
                },
                "responses": {
                    "200": {
                        "description": schema(responses[0])["title"],
                        "content": {
                            "application/json": {
                                "schema": answers[0] if len(answers) == 1 else {"anyOf": answers}
                            }
                        },
                    },
                    "default": {
                        "description": schema("problem")["title"],
                        "content": {"application/problem+json": {"schema": {"$ref": COMPONENTS + "problem"}}},
                    },
                },
            }
        }
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _add(schemas: dict[str, Any], name: str) -> None:
    """Add a contract and those that it refers to, as components: a reference within a document of its own would be
    one into the OpenAPI document here."""
    if name in schemas:
        return
    schemas[name] = {}  # before its own references are followed: one may lead back
    schemas[name] = {
        key: _moved(value, name, schemas) for key, value in schema(name).items() if not key.startswith("$")
    }
    if "$defs" in schema(name):
        schemas[name]["$defs"] = _moved(schema(name)["$defs"], name, schemas)


def _moved(value: Any, name: str, schemas: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_moved(one, name, schemas) for one in value]
    if not isinstance(value, dict):
        return value
    moved = {key: _moved(one, name, schemas) for key, one in value.items()}
    reference = value.get("$ref")
    if isinstance(reference, str):
        if reference.startswith("#"):
            moved["$ref"] = COMPONENTS + name + reference[1:]
        else:
            other = reference.removesuffix(SUFFIX)
            _add(schemas, other)
            moved["$ref"] = COMPONENTS + other
    return moved
