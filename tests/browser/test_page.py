"""The page in a real browser, on the real dashboard process; only the mesh around it is a stand-in."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import script
from tests.browser.checks import (
    Console,
    area,
    by_id,
    check_page,
    check_waterfall,
    decisions,
    eventually,
    keep_screenshot,
)
from tests.browser.stage import Stage

HISTORY_S = 240
MARKUP = """<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>&amp;'"`"""


class Play(threading.Thread):
    """Plays the script on a stage: some minutes of history at once, then a second every second."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self.stage = stage
        self.over = threading.Event()
        self.failure: Exception | None = None
        self._rng = random.Random(7)
        self._have = 2

    def rehearse(self) -> None:
        """The history, and the replicas that it ends with."""
        now = int(time.time())
        for t in range(now - HISTORY_S, now + 1):
            self._second(t)

    def run(self) -> None:
        """Until `over` is set."""
        t = int(time.time())
        try:
            while not self.over.wait(0.05):
                if time.time() >= t + 1:
                    t += 1
                    self._second(t)
        except Exception as why:  # shown by the fixture, in the main thread
            self.failure = why

    def _second(self, t: float) -> None:
        self.stage.post("traffic", script.traffic(t, self._rng, self._have))
        if t % 5 == 0:
            self.stage.post("forecasts", script.forecast(t))
        if t % 2 == 0:
            decided = script.decision(t, self._have, self._have)
            self.stage.post("decisions", decided)
            self._have = int(decided["wanted"])
            self.stage.replicas = {f"inference-{i + 1}": "ready" for i in range(self._have)}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A dashboard with its stand-ins, and nothing played yet."""
    with Stage(tmp_path) as one:
        yield one


@pytest.fixture
def play(stage: Stage) -> Iterator[Play]:
    """The stage with history, and time going on."""
    one = Play(stage)
    one.rehearse()
    one.start()
    yield one
    one.over.set()
    one.join(timeout=5)
    assert one.failure is None


@pytest.fixture(params=["dark", "light"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Both colour schemes."""
    return str(request.param)


def opened(browser: Browser, url: str, **options: Any) -> Page:
    """A page in a context of its own."""
    settings: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"} | options
    page = browser.new_context(**settings).new_page()
    page.goto(url)
    return page


def has(look: Callable[[], Any], value: Any) -> bool:
    """Whether `look` sees `value` now."""
    return bool(look() == value)


def test_the_page_shows_a_mesh_at_work(browser: Browser, stage: Stage, play: Play, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    seen = check_page(context.new_page(), stage.url, name=f"staged-{scheme}", replicas_s=60)
    assert len(seen["ready"]) > 1 and seen["reasons"]
    context.close()


def test_replicas_appear_and_disappear(browser: Browser, stage: Stage) -> None:
    page = opened(browser, stage.url)
    for count in (1, 4, 2):
        stage.replicas = {f"inference-{i + 1}": "ready" for i in range(count)}
        chips = page.locator('[data-testid^="mesh-replica-"]')
        ready = by_id(page, "replicas-ready")
        eventually(f"{count} replicas drawn", partial(has, chips.count, count), 10)
        eventually(f"{count} ready", partial(has, ready.inner_text, str(count)), 10)
    stage.replicas["inference-3"] = "starting"
    starting = by_id(page, "mesh-replica-inference-3")
    eventually("a starting replica is told apart", lambda: starting.get_attribute("data-state") == "warn", 10)
    page.context.close()


def test_the_lock_is_shown_only_where_mtls_was_observed(browser: Browser, stage: Stage) -> None:
    page = opened(browser, stage.url)
    locks = page.locator(".lock:visible[role=img]")
    eventually("locks", lambda: locks.count() == 3, 10)
    stage.mtls = False
    eventually("no locks", lambda: locks.count() == 0, 10)
    assert by_id(page, "mtls").get_attribute("data-state") == "bad"
    page.context.close()


def test_a_renewed_certificate_is_pointed_out(browser: Browser, stage: Stage) -> None:
    page = opened(browser, stage.url)
    text = by_id(page, "mesh-node-routing").locator(".cert")
    eventually("a countdown", lambda: text.count() and "expires in" in (text.text_content() or ""), 10)
    stage.certificates_end += 600
    eventually("renewal", lambda: "renewed" in (text.text_content() or ""), 10)
    page.context.close()


def test_what_comes_from_the_mesh_is_text_never_markup(browser: Browser, stage: Stage) -> None:
    decided = script.decision(time.time(), 1, 1, text=MARKUP) | {"counterfactual": MARKUP, "policy": MARKUP}
    decided["reasons"][0]["code"] = MARKUP[:60]
    stage.post("decisions", decided)
    stage.replicas = {MARKUP: "ready"}
    stage.markup = MARKUP
    page = opened(browser, stage.url)
    console = Console(page)
    page.reload()
    eventually("the text is shown", lambda: any(MARKUP in text for text in decisions(page)), 10)
    eventually(
        "the replica is shown", lambda: page.locator('[data-testid^="mesh-replica-<img"]').count() == 1, 10
    )
    by_id(page, "mesh-node-inference").focus()
    assert MARKUP in page.locator("#mesh-detail").inner_text()
    by_id(page, "trace-row").first.click()
    eventually("the operation is shown", lambda: MARKUP in by_id(page, "waterfall").inner_text(), 10)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, dialog img, main script, dialog script").count() == 0
    assert console.errors == []
    page.context.close()


def test_inline_code_would_not_run_even_if_it_got_in(browser: Browser, stage: Stage) -> None:
    page = opened(browser, stage.url)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned=1\">')")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.pwned=1'}))"
    )
    time.sleep(0.3)  # nothing is to happen
    assert page.evaluate("window.pwned") is None
    page.context.close()


def test_a_reload_loses_nothing_and_a_restart_is_survived(browser: Browser, stage: Stage, play: Play) -> None:
    page = opened(browser, stage.url)
    before = eventually("decisions", lambda: decisions(page), 10)
    band = eventually("band", lambda: area(page, "forecast-band"), 15)
    page.reload()
    eventually("the same decisions", lambda: len(decisions(page)) >= len(before), 10)
    eventually("the band", lambda: area(page, "forecast-band") > band / 2, 15)
    play.over.set()
    play.join(timeout=5)
    stage.stop_process()
    connection = by_id(page, "connection")
    eventually("the loss is shown", lambda: connection.get_attribute("data-state") != "live", 10)
    stage.start_process()
    eventually("live again", lambda: connection.get_attribute("data-state") == "live", 20)
    page.context.close()


def test_the_keyboard_reaches_everything(browser: Browser, stage: Stage, play: Play) -> None:
    page = opened(browser, stage.url)
    eventually("traces", lambda: by_id(page, "trace-row").count() > 0, 10)
    reached: set[str] = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement?.dataset?.testid ?? document.activeElement?.name ?? ''")
            or ""
        )
        if "trace-row" in reached:
            break
    assert {"mesh-node-gateway", "mesh-node-inference", "window", "trace-row"} <= reached
    page.keyboard.press("Enter")
    waterfall = by_id(page, "waterfall")
    eventually("Enter opens the waterfall", waterfall.is_visible, 5)
    page.keyboard.press("Escape")
    eventually("Escape closes it", lambda: not waterfall.is_visible(), 5)
    assert page.evaluate("document.activeElement.dataset.testid") == "trace-row"
    page.context.close()


def test_the_traces_stand_still_while_they_are_pointed_at(browser: Browser, stage: Stage) -> None:
    page = opened(browser, stage.url)
    rows = by_id(page, "trace-row")
    eventually("traces", lambda: rows.count() > 0, 10)
    first = rows.first.get_attribute("data-trace-id")
    rows.first.hover()
    eventually("the list says so", lambda: "held" in page.locator("#traces-note").inner_text(), 5)
    stage.traffic = 1
    time.sleep(7)  # more than one refresh, in which nothing is to happen
    assert rows.first.get_attribute("data-trace-id") == first
    page.mouse.move(1, 1)
    eventually("the new ones", lambda: rows.first.get_attribute("data-trace-id") != first, 15)
    assert "held" not in page.locator("#traces-note").inner_text()
    page.context.close()


def test_a_narrow_page_fits(browser: Browser, stage: Stage, play: Play, scheme: Any) -> None:
    page = opened(browser, stage.url, viewport={"width": 400, "height": 800}, color_scheme=scheme)
    eventually("band", lambda: area(page, "forecast-band"), 15)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    ends = page.locator("main .panel, main .tile").evaluate_all(
        "boxes => boxes.map(box => box.getBoundingClientRect().right)"
    )
    assert max(ends) <= 400
    keep_screenshot(page, f"staged-{scheme}-narrow")
    assert check_waterfall(page, 20)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    keep_screenshot(page, f"staged-{scheme}-narrow-waterfall", full_page=False)
    page.context.close()
