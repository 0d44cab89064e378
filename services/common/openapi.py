"""Hot routes in the OpenAPI document: FastAPI does not see them, so their contracts are added to what it
generates.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from services.contracts import schema


def describe(app: FastAPI, path: str, summary: str, *, request: str, response: str) -> None:
    """Add `POST path` to the app's OpenAPI document, with the contracts `request` and `response` by name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["paths"][path] = {
            "post": {
                "summary": summary,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": schema(request)}},
                },
                "responses": {
                    "200": {
                        "description": schema(response)["title"],
                        "content": {"application/json": {"schema": schema(response)}},
                    },
                    "default": {
                        "description": schema("problem")["title"],
                        "content": {"application/problem+json": {"schema": schema("problem")}},
                    },
                },
            }
        }
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
