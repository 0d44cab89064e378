"""The tokenization service: `POST /v1/tokenize`, texts to token ids."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
from fastapi import FastAPI
from opentelemetry.trace import SpanKind, Tracer
from prometheus_client import Counter, Histogram

from services.common import problems, telemetry
from services.common.app import create_app
from services.common.asgi import Receive, Scope, Send, header_text, read_body, send_json
from services.common.decode import decode
from services.common.openapi import describe
from services.common.vocabulary import Vocabulary
from services.contracts.messages import TokenizeReply, TokenizeRequest
from services.tokenization.settings import Settings
from services.tokenization.vocabularies import Vocabularies

BATCH = Histogram(
    "foremesh_tokenize_batch_size", "Texts per call.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
TEXTS = Counter("foremesh_tokenize_texts", "Texts encoded.", ["model"])
TRUNCATED = Counter(
    "foremesh_tokenize_truncated", "Texts that were longer than their model reads.", ["model"]
)

_requests = msgspec.json.Decoder(TokenizeRequest)
_encoder = msgspec.json.Encoder()


class Tokenization:
    """The route of the service, over the vocabularies it was given."""

    def __init__(self, settings: Settings, vocabularies: Vocabularies, tracer: Tracer) -> None:
        self._settings = settings
        self._vocabularies = vocabularies
        self._tracer = tracer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._in_thread = 0

    def ready(self) -> bool:
        """Return whether there is a model to tokenize for."""
        return bool(self._vocabularies.names)

    def close(self) -> None:
        """Let the encoding thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST /v1/tokenize`; a plain ASGI route."""
        body = await read_body(receive, self._settings.max_body_bytes)
        span = telemetry.begin(
            self._tracer, "tokenize", header_text(scope, b"traceparent"), kind=SpanKind.SERVER
        )
        try:
            request = decode(_requests, body)
            texts = request.texts
            if len(texts) > self._settings.max_texts:
                raise problems.Problem(
                    400,
                    "out-of-range",
                    "Out of range",
                    f"texts: {len(texts)} in one call, at most {self._settings.max_texts} are taken",
                    field="texts",
                )
            vocabulary = self._vocabularies.find(request.model, request.tier)
            if request.tokenizer and request.tokenizer != vocabulary.card.tokenizer:
                # Inference saw a new version first.
                await self._vocabularies.look()
                vocabulary = self._vocabularies.find(request.model, request.tier)
            characters = sum(map(len, texts))
            encode = partial(_encode, vocabulary, texts, request.offsets)
            small = characters <= self._settings.inline_characters
            reply = encode() if small else await self._in_thread_of_its_own(encode)
            BATCH.observe(len(texts))
            TEXTS.labels(request.model).inc(len(texts))
            cut = sum(reply.truncated)
            if cut:
                TRUNCATED.labels(request.model).inc(cut)
            if span is not None:
                span.set_attributes(
                    {
                        "batch.size": len(texts),
                        "batch.characters": characters,
                        "batch.truncated": cut,
                        "model": request.model,
                        "tier": vocabulary.card.tier,
                        "replica": self._settings.instance,
                    }
                )
            await send_json(send, _encoder.encode(reply))
        finally:
            if span is not None:
                span.end()

    async def _in_thread_of_its_own(self, encode: Callable[[], TokenizeReply]) -> TokenizeReply:
        if self._in_thread >= self._settings.max_threaded_calls:
            raise problems.overloaded(f"{self._in_thread} large calls wait for the encoding thread already")
        self._in_thread += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, encode)
        finally:
            self._in_thread -= 1


def _encode(vocabulary: Vocabulary, texts: list[str], with_offsets: bool) -> TokenizeReply:
    tokenizer = vocabulary.card.tokenizer
    if with_offsets:
        ids, truncated, offsets = vocabulary.encode_with_offsets(texts)
        return TokenizeReply(ids, truncated, tokenizer, offsets)
    return TokenizeReply(*vocabulary.encode(texts), tokenizer)


def create(settings: Settings) -> FastAPI:
    """Return the service's app; raises `CatalogError` when the catalog cannot be used."""
    tracer = telemetry.setup(settings)
    vocabularies = Vocabularies(settings.catalog, settings.tier)
    service = Tokenization(settings, vocabularies, tracer)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(vocabularies.watch(settings.watch_s))
        yield
        watching.cancel()
        service.close()
        telemetry.flush()

    app = create_app(
        settings,
        title="Foremesh tokenization",
        lifespan=lifespan,
        ready=service.ready,
        hot={"/v1/tokenize": service.tokenize},
    )

    describe(
        app,
        "/v1/tokenize",
        "Turn texts into ids",
        request="tokenize-request",
        responses=("tokenize-response",),
    )

    @app.get("/v1/models")
    async def models() -> dict[str, list[str]]:
        return {"models": vocabularies.keys}

    return app
