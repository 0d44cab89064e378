"""What inference alone answers, as an OpenAPI document: made of the types that its routes read and write, when somebody
asks for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from services.common import VERSION, embeddings, summaries
from services.contracts import schema
from services.inference.protocols import intents, openai
from services.inference.protocols.v2 import body, models

REF = "#/components/schemas/"
NAME = {"type": "string", "minLength": 1}
MODEL = {"name": "model", "in": "path", "required": True, "schema": NAME, "example": "intent.tiny"}
VERSION_OF = {"name": "version", "in": "path", "required": True, "schema": NAME, "example": "2"}


class Operation(NamedTuple):
    """A method of a path: its body and its answers, types or schemas; without an answer it says no more than 200.
    binary: where tensors come as bytes, they come behind the JSON."""

    summary: str
    request: Any = None
    answers: tuple[Any, ...] = ()
    statuses: tuple[int, ...] = (200,)
    binary: bool = False


INFERRED = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name", "datatype", "shape"]}},
    },
}
INDEX = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
READY = (200, 503)

ROUTES: dict[str, dict[str, Operation]] = {
    "/healthz": {"get": Operation("Whether the process lives")},
    "/readyz": {"get": Operation("Whether what is to be preloaded is there", statuses=READY)},
    "/metrics": {"get": Operation("Prometheus' text format")},
    "/v1/intents": {"post": Operation("Texts to intents", intents.Question, (intents.Answer, intents.Items))},
    "/v1/summaries": {
        "post": Operation(
            "The sentences at the centre of a text", summaries.SummaryRequest, (summaries.Summary,)
        )
    },
    "/v1/embeddings": {
        "post": Operation("Texts to vectors", embeddings.EmbeddingsRequest, (embeddings.EmbeddingsReply,))
    },
    "/v1/models": {"get": Operation("The entries of the catalog", answers=(openai.ModelList,))},
    "/v1/models/{model}": {"get": Operation("One of them", answers=(openai.ModelAbout,))},
    "/v2": {"get": Operation("The server")},
    "/v2/health/live": {"get": Operation("Whether it lives")},
    "/v2/health/ready": {"get": Operation("Whether it is ready", statuses=READY)},
    "/v2/repository/index": {"post": Operation("Every entry and its state", INDEX, (list[models.Row],))},
    "/v2/repository/models/{model}/load": {"post": Operation("Load a model")},
    "/v2/repository/models/{model}/unload": {"post": Operation("Let a model go")},
    **{
        f"{path}{more}": operations
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        for more, operations in (
            ("", {"get": Operation("What a model takes and gives", answers=(models.About,))}),
            ("/ready", {"get": Operation("Whether it is in memory", statuses=READY)}),
            ("/infer", {"post": Operation("Run it", body.InferRequest, (INFERRED,), binary=True)}),
        )
    },
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    kinds: list[Any] = []
    for operations in ROUTES.values():
        for one in operations.values():
            kinds += [kind for kind in (one.request, *one.answers) if kind and not isinstance(kind, dict)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF + "{name}")
    by_kind = {str(kind): made for kind, made in zip(kinds, schemas, strict=True)}
    problem = {key: value for key, value in schema("problem").items() if not key.startswith("$")}
    components = {**components, "problem": problem}

    def schema_of(kind: Any) -> Any:
        return kind if isinstance(kind, dict) else by_kind[str(kind)]

    def described(one: Operation) -> dict[str, Any]:
        answers = [schema_of(answer) for answer in one.answers]
        content = {"application/json": {"schema": answers[0] if len(answers) == 1 else {"anyOf": answers}}}
        told: dict[str, Any] = {"summary": one.summary, "responses": {}}
        if one.request is not None:
            told["requestBody"] = {"content": {"application/json": {"schema": schema_of(one.request)}}}
        for status in one.statuses:
            told["responses"][str(status)] = {"description": one.summary}
        if answers:
            told["responses"]["200"]["content"] = content
        if one.binary:
            content["application/octet-stream"] = {}
        told["responses"]["default"] = {
            "description": problem["title"],
            "content": {"application/problem+json": {"schema": {"$ref": f"{REF}problem"}}},
        }
        return told

    paths: dict[str, Any] = {}
    for path, operations in ROUTES.items():
        paths[path] = {method: described(one) for method, one in operations.items()}
        named = [parameter for parameter in (MODEL, VERSION_OF) if f"{{{parameter['name']}}}" in path]
        if named:
            paths[path]["parameters"] = named
    return {
        "openapi": "3.1.0",
        "info": {"title": "Foremesh inference", "version": VERSION},
        "paths": paths,
        "components": {"schemas": components},
    }
