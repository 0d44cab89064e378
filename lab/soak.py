"""Mixed load for as long as one likes, and what the server's memory does meanwhile.

Every protocol of inference alone, good requests and bad ones, texts of all lengths, models that come and go. Addresses
and a look at the server's memory come in, figures go out.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict
from urllib.parse import urlsplit

from lab.utterances import Utterance

SETTLE = 0.1
"""Share of the time that memory may take to find its size: every model was loaded, every buffer was once full."""

TIMEOUT_S = 10.0

LATE = (429, 503, 504)
"""Statuses of a server that has too much to do, which is no mistake."""


class Request(NamedTuple):
    """What is sent, and the statuses that are right."""

    kind: str
    method: str
    path: str
    body: bytes
    right: tuple[int, ...] = (200,)


class SoakFigures(TypedDict):
    """requests: by kind; late: answers with a status of LATE; wrong: answers with another status than they should have,
    or none; memory_mb: resident (10^6 bytes), medians of the tenth of the time behind SETTLE and of the last tenth;
    memory_growth: share by which it grew; samples_mb: a look every so often, from the begin."""

    seconds: float
    requests: dict[str, int]
    late: int
    wrong: int
    first_wrong: str
    memory_mb: list[float]
    memory_growth: float
    samples_mb: list[float]


def soak(
    base_url: str,
    utterances: Sequence[Utterance],
    memory_mb: Callable[[], float],
    *,
    seconds: float,
    connections: int = 2,
    pause_s: float = 0.02,
    every_s: float = 5.0,
    seed: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> SoakFigures:
    """Keep ``connections`` clients at work on inference alone at ``base_url``, each waiting ``pause_s`` between two
    requests. memory_mb is asked every ``every_s`` seconds; ``say`` hears once a minute."""
    end = time.monotonic() + seconds
    clients = [_Client(base_url, utterances, end, pause_s, seed + number) for number in range(connections)]
    for client in clients:
        client.start()
    samples: list[float] = []
    told = began = time.monotonic()
    while time.monotonic() < end:
        samples.append(memory_mb())
        if time.monotonic() - told >= 60:
            told = time.monotonic()
            sent = sum(client.sent.total() for client in clients)
            say(f"{(told - began) / 60:.0f} min: {sent} requests, {samples[-1]:.1f} MB")
        time.sleep(max(0.0, min(every_s, end - time.monotonic())))
    for client in clients:
        client.join()
    wrong = [line for client in clients for line in client.wrong]
    first, last = spread(samples)
    return SoakFigures(
        seconds=seconds,
        requests=dict(sorted(sum((client.sent for client in clients), Counter[str]()).items())),
        late=sum(client.late for client in clients),
        wrong=len(wrong),
        first_wrong=wrong[0] if wrong else "",
        memory_mb=[round(first, 2), round(last, 2)],
        memory_growth=round(last / first - 1, 4) if first else 0.0,
        samples_mb=[round(sample, 2) for sample in samples],
    )


def spread(samples: Sequence[float]) -> tuple[float, float]:
    """Medians of the tenth of the samples behind SETTLE, and of the last tenth; zeros without any."""
    if not samples:
        return 0.0, 0.0
    tenth, begin = max(1, len(samples) // 10), int(len(samples) * SETTLE)
    return statistics.median(samples[begin : begin + tenth]), statistics.median(samples[-tenth:])


class _Client(threading.Thread):
    """One keep-alive connection that asks for everything there is, at random."""

    def __init__(
        self, base_url: str, utterances: Sequence[Utterance], end: float, pause_s: float, seed: int
    ) -> None:
        super().__init__(daemon=True)
        where = urlsplit(base_url)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_S)
        self._texts = [said.text for said in utterances]
        self._end = end
        self._pause_s = pause_s
        self._random = random.Random(seed)
        self.sent: Counter[str] = Counter()
        self.late = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self._end:
            request = draw(self._random, self._texts)
            self.sent[request.kind] += 1
            try:
                self._connection.request(
                    request.method, request.path, request.body, {"content-type": "application/json"}
                )
                response = self._connection.getresponse()
                content = response.read()
                if response.status in LATE:
                    self.late += 1
                elif response.status not in request.right:
                    self.wrong.append(f"{request.kind}: {response.status} {content[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"{request.kind}: {error!r}")
                self._connection.close()
            time.sleep(self._pause_s)
        self._connection.close()


def draw(random: random.Random, texts: Sequence[str]) -> Request:
    """A request of a random kind, of random content."""
    tier = random.choice(("tiny", "tiny", "tiny", "mini", "base"))
    some = [
        " ".join(random.choices(texts, k=random.choice((1, 1, 1, 4, 20))))
        for _ in range(random.randint(1, 24))
    ]

    def post(kind: str, path: str, body: Any, *right: int) -> Request:
        return Request(kind, "POST", path, json.dumps(body).encode(), right or (200,))

    tensor = {"name": "text", "shape": [len(some)], "datatype": "BYTES", "data": some}
    makers: list[Callable[[], Request]] = [
        lambda: post("intent", "/v1/intents", {"text": some[0][:2000], "model": f"intent.{tier}"}),
        lambda: post("intents", "/v1/intents", {"texts": some, "model": f"intent.{tier}"}),
        lambda: post(
            "embeddings", "/v1/embeddings",
            {"input": some, "model": "intent.mini", "encoding_format": random.choice(("float", "base64"))},
        ),
        lambda: post("summary", "/v1/summaries", {"text": ". ".join(some) + ".", "sentences": 2}),
        lambda: post("v2", f"/v2/models/intent.{tier}/infer", {"inputs": [tensor]}),
        lambda: post("load", "/v2/repository/models/intent.base/load", {}),
        lambda: post("unload", "/v2/repository/models/intent.base/unload", {}),
        lambda: Request("list", "GET", "/v1/models", b""),
        lambda: Request("no JSON", "POST", "/v1/intents", b"{" * random.randint(1, 5000), (400,)),
        lambda: post("nothing there", "/v1/intents", {"text": "a", "model": "nobody"}, 404),
        lambda: post("bad tensor", "/v2/models/intent.tiny/infer", {"inputs": [{**tensor, "shape": [99]}]}, 400),
    ]  # fmt: skip
    weights = [30, 10, 5, 2, 10, 1, 1, 2, 3, 3, 3]
    return random.choices(makers, weights)[0]()
