"""What must be true of the page on a mesh under load, live or staged. Waits by polling, with deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Locator, Page, TimeoutError

APPS = ("gateway", "routing", "tokenization", "inference", "predictor", "autoscaler", "dashboard")
ON_THE_PATH = frozenset({"gateway", "routing", "tokenization", "inference"})
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "browser"
POLL_S = 0.1

T = TypeVar("T")


class Console:
    """Collects what must not happen: errors on the console, uncaught exceptions, refused resources."""

    def __init__(self, page: Page) -> None:
        self.errors: list[str] = []
        page.on("console", lambda message: self._heard(message.type, f"{message.text} {message.location}"))
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.errors.append(f"{kind}: {text}")


def eventually(what: str, look: Callable[[], T], within_s: float) -> T:
    """The first truthy value of `look`. Raises AssertionError, naming `what` and the last value seen."""
    deadline = time.monotonic() + within_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what} (last seen: {seen!r})")
        time.sleep(POLL_S)


def by_id(page: Page, name: str) -> Locator:
    """The elements with this data-testid."""
    return page.locator(f'[data-testid="{name}"]')


def area(page: Page, name: str) -> float:
    """Pixels that the first element of this name takes on the page; 0 when there is none."""
    found = by_id(page, name)
    box = found.first.bounding_box() if found.count() else None
    return box["width"] * box["height"] if box else 0.0


def keep_screenshot(page: Page, name: str, *, full_page: bool = True) -> Path:
    """Keep a picture at build/browser/<name>.png, an artefact of the test run."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path, full_page=full_page)
    return path


def check_page(
    page: Page,
    dashboard_url: str,
    *,
    name: str = "live",
    settle_s: float = 30.0,
    replicas_s: float = 150.0,
    traces_s: float = 60.0,
) -> dict[str, Any]:
    """Open the page of a mesh under demo load and assert all that it promises; screenshots are kept.

    The deadlines: `settle_s` for what any running mesh shows, `replicas_s` more until the number of ready replicas
    has changed once since the page was opened, `traces_s` until a trace with spans of the whole path opens.
    Returns what was seen. Raises AssertionError.
    """
    console = Console(page)
    page.goto(dashboard_url)
    _note_replicas(page)
    eventually("connection is live", lambda: _says(page, "connection", "live"), settle_s)
    check_mesh(page, settle_s)
    eventually("forecast band is drawn", lambda: area(page, "forecast-band") > 100, settle_s)
    rate = page.locator("#tile-rate")
    eventually("requests are counted", lambda: rate.inner_text().strip("0") and _number(rate), settle_s)
    reasons = eventually("decisions with reasons", lambda: decisions(page), settle_s)
    try:
        eventually("ready replicas changed", lambda: len(_replicas_noted(page)) > 1, replicas_s)
    except AssertionError as e:
        e.add_note(f"seen ready: {sorted(_replicas_noted(page))}; last decisions: {decisions(page)[:4]}")
        raise
    keep_screenshot(page, f"{name}-page")
    services = check_waterfall(page, traces_s)
    keep_screenshot(page, f"{name}-waterfall", full_page=False)
    page.keyboard.press("Escape")
    eventually("waterfall is closed", lambda: not by_id(page, "waterfall").is_visible(), 5)
    assert console.errors == []
    return {"reasons": reasons, "ready": sorted(_replicas_noted(page)), "services": sorted(services)}


def check_mesh(page: Page, within_s: float) -> None:
    """Every app is in the picture with its SPIFFE ID and a running countdown; the path's edges are locked."""
    for app in APPS:
        node = by_id(page, f"mesh-node-{app}")
        eventually(f"{app} is drawn", node.is_visible, within_s)
        named = node.and_(page.locator(f'[aria-label*="spiffe://public/ns/default/{app}"]'))
        eventually(f"{app} shows its SPIFFE ID", named.is_visible, within_s)
        eventually(f"{app} is ready", node.and_(page.locator('[data-state="good"]')).is_visible, within_s)
    for name in ("redis", "sentry"):
        eventually(f"{name} is drawn", by_id(page, f"mesh-node-{name}").is_visible, within_s)
    countdown = by_id(page, "mesh-node-gateway").locator(".cert")
    first = countdown.text_content() or ""
    assert "certificate expires in" in first
    eventually("the countdown runs", lambda: countdown.text_content() != first, 5)
    locks = page.locator(".lock:visible[role=img]")
    eventually("mTLS is shown on three hops", lambda: locks.count() >= 3, within_s)


def check_waterfall(page: Page, within_s: float) -> set[str]:
    """Open traces until one has spans of the whole path (a cached answer has none of inference)."""
    rows = by_id(page, "trace-row")
    eventually("traces are listed", lambda: rows.count() > 0, within_s)
    best: set[str] = set()
    tried: set[str] = set()
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        ids = [rows.nth(i).get_attribute("data-trace-id") or "" for i in range(rows.count())]
        fresh = [trace_id for trace_id in ids if trace_id not in tried]
        if not fresh:
            time.sleep(1)  # the list is asked for every few seconds
            continue
        tried.add(fresh[0])
        best = max(best, _opened(page, fresh[0]), key=len)
        if best >= ON_THE_PATH:
            return best
        page.keyboard.press("Escape")
        page.mouse.move(1, 1)  # the list stands still while it is pointed at
    raise AssertionError(f"no trace of the whole path within {within_s:g} s; the best had {sorted(best)}")


def decisions(page: Page) -> list[str]:
    """The reasons of the decisions listed, newest first."""
    return [
        text for text in by_id(page, "decision-row").locator(".reasons").all_inner_texts() if text.strip()
    ]


def _note_replicas(page: Page) -> None:
    """Have the page keep every number of ready replicas that it shows from now on, whatever is checked meanwhile."""
    page.evaluate(
        """() => {
            const tile = document.querySelector('[data-testid="replicas-ready"]');
            const seen = (window.replicasNoted = new Set([tile.textContent]));
            new MutationObserver(() => seen.add(tile.textContent))
                .observe(tile, { childList: true, characterData: true, subtree: true });
        }"""
    )


def _replicas_noted(page: Page) -> set[str]:
    return {one for one in page.evaluate("() => [...window.replicasNoted]") if one.strip().isdigit()}


def _number(found: Locator) -> bool:
    return any(letter.isdigit() for letter in found.inner_text())


def _says(page: Page, name: str, text: str) -> bool:
    return by_id(page, name).inner_text().startswith(text)


def _opened(page: Page, trace_id: str) -> set[str]:
    """Services of the bars of a trace; late spans are waited for as the page itself does. None if it has left the
    list by now: under load a list is replaced whole, and only pointing at it holds it."""
    try:
        page.locator(f'[data-trace-id="{trace_id}"]').click(timeout=2000)
    except TimeoutError:
        return set()
    bars = by_id(page, "waterfall").locator('[data-testid="waterfall-bar"]')
    services: set[str] = set()
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline and not services >= ON_THE_PATH:
        services = set(bars.evaluate_all("bars => bars.map(bar => bar.dataset.service)"))
        time.sleep(POLL_S)
    return services
