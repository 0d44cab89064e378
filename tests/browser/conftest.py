"""A real browser: Debian's chromium, driven by playwright through its executable path."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser a module; its tests are skipped, and say so, where there is none.

    Not one a session: playwright keeps an event loop running in this thread, and no test after it could run its own.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip(
            "NOT TESTED: the page in a browser, since there is no chromium on PATH (apt install chromium)"
        )
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield one
        one.close()
