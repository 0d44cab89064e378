"""Inference alone, without a mesh: one process that takes texts and answers in public protocols.

`foremesh models serve` runs it. Nothing here needs a sidecar, a token or a trace, so nothing of it is imported: beside
the models the process is ONNX Runtime, a tokenizer and an HTTP parser. It listens on loopback unless told otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from services.common import problems, serving
from services.common.asgi import ClientGone, Receive, Scope, Send, send_json, send_problem
from services.common.asgi import Route as Handler
from services.common.catalog import Card, CatalogError
from services.common.embeddings import with_error
from services.common.logs import logger, to_stderr
from services.common.memory import forget_start, one_arena
from services.common.problems import Problem
from services.common.vocabulary import Vocabulary
from services.inference.batching import Batcher
from services.inference.model import Model
from services.inference.protocols.intents import Intents
from services.inference.protocols.openai import Embeddings, Models
from services.inference.protocols.summaries import Summaries
from services.inference.protocols.v2.http import Server
from services.inference.repository import Held, Repository
from services.inference.texts import TextHeld, Texts

if TYPE_CHECKING:
    from services.inference.protocols.v2.grpc import Listener

log = logger("foremesh.inference")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How inference alone runs. preload: keys loaded at the start, which stay; preferred: tier that answers where a
    model is named without one; grpc_port: for the v2 protocol over gRPC, 0: none; memory_mb, idle_s: see `Repository`;
    the rest as in `services.inference.settings`."""

    catalog: str
    preload: tuple[str, ...] = ()
    preferred: str = "tiny"
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int = 0
    threads: int = 1
    max_batch: int = 32
    max_items: int = 256
    queue_items: int = 512
    queue_s: float = 1.0
    deadline_s: float = 5.0
    memory_mb: float = 0.0
    idle_s: float = 0.0
    catalog_every_s: float = 2.0
    max_body_bytes: int = 8 << 20
    max_connections: int = 1024


class Standalone:
    """The ASGI app."""

    def __init__(self, options: Options) -> None:
        """Load what is to be preloaded. Raises `CatalogError` where that cannot be."""
        self._options = options
        self.repository = Repository(
            Path(options.catalog),
            self._make,
            pinned=options.preload,
            memory_mb=options.memory_mb,
            idle_s=options.idle_s,
        )
        self.repository.preload()
        self.texts = Texts(
            self.repository,
            preferred=options.preferred,
            deadline_s=options.deadline_s,
            max_items=options.max_items,
        )
        limit = options.max_body_bytes
        self.grpc = _grpc(options, self.texts)
        server = Server(self.texts, limit)
        self._hot: dict[str, Handler] = {
            "/v1/intents": Intents(self.texts, limit),
            "/v1/embeddings": Embeddings(self.texts, limit),
            "/v1/summaries": Summaries(self.texts, limit),
        }
        self._router = Router(
            [
                _route("GET", "/healthz", _alive),
                _route("GET", "/readyz", self._ready),
                _route("GET", "/metrics", _metrics),
                _route("GET", "/openapi.json", _openapi),
                _route("GET", "/v1/models", Models(self.texts)),
                _route("GET", "/v1/models/{model:path}", Models(self.texts)),
                _route("GET", "/v2", server.about),
                _route("GET", "/v2/health/live", server.live),
                _route("GET", "/v2/health/ready", server.ready),
                _route("POST", "/v2/repository/index", server.index),
                _route("POST", "/v2/repository/models/{model}/load", server.load),
                _route("POST", "/v2/repository/models/{model}/unload", server.unload),
                *(
                    route
                    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
                    for route in (
                        _route("GET", path, server.model),
                        _route("GET", f"{path}/ready", server.model_ready),
                        _route("POST", f"{path}/infer", server.infer),
                    )
                ),
            ],
            redirect_slashes=False,
            default=_nothing,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI event."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        path = scope["path"]
        try:
            route = self._hot.get(path)
            if route is None:
                scope["app"] = self  # else the router answers a wrong method by itself, with a line of text
                await self._router(scope, receive, send)
            elif scope["method"] == "POST":
                await route(scope, receive, send)
            else:
                raise problems.method_not_allowed(path, scope["method"])
        except Problem as problem:
            await send_problem(send, _in_protocol(path, problem))
        except HTTPException:  # the router raises it for nothing but a method
            await send_problem(send, _in_protocol(path, problems.method_not_allowed(path, scope["method"])))
        except ClientGone:
            return
        except Exception:
            log.exception("request failed", extra={"path": path})
            await send_problem(send, _in_protocol(path, problems.internal()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer, over gRPC by oneself, and look after the catalog, until the end of the block. Raises OSError where
        the port for gRPC cannot be listened on."""
        self.repository.start()
        watching = asyncio.create_task(self.repository.watch(self._options.catalog_every_s))
        try:
            if self.grpc is not None:
                await self.grpc.start()
            yield
        finally:
            if self.grpc is not None:
                await self.grpc.stop()
            watching.cancel()
            await self.repository.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Nothing: `running` is around all that listens, for the models answer until the last of it is drained."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def _make(self, card: Card) -> Held:
        options = self._options
        model = Model(card, max_batch=options.max_batch, threads=options.threads)
        batcher = Batcher(
            model.run,
            max_batch=model.max_batch,
            queue_items=options.queue_items,
            queue_s=options.queue_s,
            brief=model.brief,
        )
        return TextHeld(model, batcher, Vocabulary(card))

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.repository.ready:
            raise problems.unavailable("what is to be preloaded is not there yet")
        await send_json(send, b'{"status":"ready"}')


def serve(options: Options, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain for 5 s at most and return. `ready` is called when it listens.

    Raises `CatalogError` where the catalog cannot be used, OSError where a port cannot, ImportError where what gRPC
    needs is not installed.
    """
    one_arena()
    serving.short_switches()
    to_stderr("inference", "standalone", "INFO")
    app = Standalone(options)
    forget_start()
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.create_server((options.host, options.port), family=family, backlog=serving.BACKLOG)
    listener = serving.Listener(
        app, options.host, options.port, max_connections=options.max_connections, sockets=[listening]
    )
    serving.run([listener, *([app.grpc] if app.grpc else [])], ready, app.running())


def main() -> None:
    """`python -m services.inference.standalone OPTIONS`, with the members of `Options` as JSON: what `foremesh models
    serve` becomes, so that nothing of the command stays in memory. Ends with status 1 and a line on stderr where the
    catalog or a port cannot be used."""
    options = msgspec.json.decode(sys.argv[1], type=Options)
    told = f"listening on http://{options.host}:{options.port}"
    if options.grpc_port:
        told += f", for gRPC on {options.host}:{options.grpc_port}"
    try:
        serve(options, lambda: print(told, flush=True))
    except (CatalogError, ImportError, OSError) as error:
        sys.exit(f"foremesh: {error}")


def _grpc(options: Options, texts: Texts) -> Listener | None:
    """What answers gRPC, where a port is given for it. It is imported here alone: without a port nobody pays for it."""
    if not options.grpc_port:
        return None
    # Its own lines on stderr are no JSON; what matters of them comes as a status or an exception.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from services.inference.protocols.v2.grpc import Listener  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            f"--grpc-port needs the packages grpcio and grpcio-health-checking ({error}); install "
            "requirements/runtime.lock (`make setup`), or leave --grpc-port out"
        ) from error
    return Listener(
        texts,
        options.host,
        options.grpc_port,
        max_message_bytes=options.max_body_bytes,
        max_calls=options.max_connections,
    )


class _Endpoint:
    """A plain ASGI function as Starlette's router takes it."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(scope, receive, send)


def _route(method: str, path: str, handler: Handler) -> Route:
    return Route(path, _Endpoint(handler), methods=[method])


async def _alive(scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, b'{"status":"alive"}')


async def _metrics(scope: Scope, receive: Receive, send: Send) -> None:
    body = generate_latest()
    headers = [(b"content-type", CONTENT_TYPE_LATEST.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _openapi(scope: Scope, receive: Receive, send: Send) -> None:
    from services.inference.openapi import document  # noqa: PLC0415 (made for who asks, and for nobody else)

    await send_json(send, msgspec.json.encode(document()))


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise problems.not_found(f"there is nothing at {scope['path']}")


def _in_protocol(path: str, problem: Problem) -> Problem:
    """The problem with what the path's protocol expects of an error."""
    if path.startswith("/v2"):
        problem.ext["error"] = problem.detail
    elif path.startswith(("/v1/embeddings", "/v1/models")):
        return with_error(problem)
    return problem


if __name__ == "__main__":
    main()
