"""The page on a real mesh while the demo runs: a real browser, real sidecars, real traffic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from deploy.local.settings import REPO
from tests.browser.checks import check_page, keep_screenshot
from tests.mesh.harness import LEASH, free_port_base, until

KEYS = {
    "sent", "answered", "shed", "failed", "accuracy", "p50_ms", "p95_ms", "p99_ms", "replicas",
    "scale_out_delay_late_s", "scale_out_delay_all_s", "waste", "mtls_hops", "plaintext_hops",
}  # fmt: skip
DATA = REPO.parent / "shared/data"


@pytest.mark.timeout(280)
def test_the_page_while_the_demo_runs(browser: Browser, tmp_path: Path) -> None:
    base = free_port_base()
    figures = tmp_path / "demo.json"
    command = [
        sys.executable,
        "-m",
        "foremesh.cli",
        "demo",
        "--duration",
        "70",
        "--exit",
        "--json",
        str(figures),
    ]
    trace, utterances = DATA / "traces/worldcup98_1min.csv", DATA / "intents/hwu64/test.tsv"
    labelled = 0.80
    if trace.exists():
        command += ["--trace", str(trace), "--utterances", str(utterances)]
    else:
        print("../shared/data is not here: the demo's own synthetic trace and utterances are used")
    out = (tmp_path / "demo.out").open("w")
    demo = subprocess.Popen(
        [*LEASH, *command],
        cwd=REPO,
        env=os.environ | {"FOREMESH_PORT_BASE": str(base), "FOREMESH_STATE_DIR": str(tmp_path)},
        stdout=out,
        stderr=out,
        start_new_session=True,
    )
    try:
        page_url = f"http://127.0.0.1:{base + 1}"
        printed = tmp_path / "demo.out"
        until(lambda: "replaying" in printed.read_text() or demo.poll() is not None, 90, "the replay begins")
        assert demo.poll() is None, printed.read_text()
        began = time.monotonic()
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        seen = check_page(page, page_url, replicas_s=60.0)
        until(lambda: time.monotonic() > began + 55, 60, "there is something to look at")
        keep_screenshot(page, "live-end")
        page.close()
        assert seen["reasons"]
        demo.wait(150)
        text = (tmp_path / "demo.out").read_text()
        assert demo.returncode == 0, text
        result = json.loads(figures.read_text())
        assert result.keys() >= KEYS
        assert result["sent"] == result["answered"] + result["shed"] + result["failed"]
        assert result["answered"] > 0.9 * result["sent"], text
        assert result["accuracy"] > labelled
        assert result["plaintext_hops"] == 0
        assert result["mtls_hops"] > 0
    finally:
        out.close()
        if demo.poll() is None:
            demo.send_signal(signal.SIGINT)
            deadline = time.monotonic() + 30
            while demo.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            if demo.poll() is None:
                os.killpg(demo.pid, signal.SIGKILL)
                demo.wait()
