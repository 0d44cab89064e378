"""Certificates rotate and replicas come and go while requests are answered: not one may fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import pytest

from deploy.local.identities import observe
from foremesh.mesh import Failed
from foremesh.scale import set_by_hand
from tests.mesh.harness import Load, RunningMesh, running_mesh, until


@pytest.fixture(scope="module")
def short_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("rotation"), policy="static:1", cert_ttl="60s") as mesh:
        yield mesh


@pytest.mark.timeout(240)
def test_certificates_of_60_s_rotate_under_load(short_lived: RunningMesh) -> None:
    ports = {p["name"]: p["port"] for p in short_lived.processes().values() if p["kind"] == "sidecar"}
    first = {name: asyncio.run(observe(port)).not_after for name, port in ports.items()}
    assert all(left - time.time() < 120 for left in first.values())
    with Load(short_lived, pause_s=0.02) as load:
        waiting = dict(first)
        deadline = time.monotonic() + 130
        while waiting:
            for name in list(waiting):
                if asyncio.run(observe(ports[name])).not_after > waiting[name]:
                    del waiting[name]
            assert time.monotonic() < deadline, f"not rotated: {sorted(waiting)}"
            time.sleep(0.5)
        # Beyond the end of every first certificate, so that nothing can still lean on one.
        until(lambda: time.time() > max(first.values()) + 2, 90, "the first certificates have expired")
        moment = time.monotonic()
        until(lambda: load.answered_after(moment), 5, "answers go on")
    assert load.answered > 500
    # A certificate that is dated back too far is renewed without end, hundreds of times a second.
    renewed = (short_lived.settings.run_dir / "logs/sentry.log").read_text().count("Successfully renewed")
    assert 1 <= renewed < 30, f"sentry renewed its own certificate {renewed} times"
    assert not load.failures, load.failures[:5]


def test_scale_1_4_1_under_load(short_lived: RunningMesh) -> None:
    answered_by: set[str] = set()
    with Load(short_lived, connections=8) as load:
        for wanted in (4, 1):
            set_by_hand(short_lived.client, "inference", wanted, 40)
            moment = time.monotonic()
            until(partial(load.answered_after, moment + 1.0), 5, "answers go on")
            for _ in range(60 if wanted == 4 else 0):
                status, document = short_lived.ask()
                assert status == 200
                answered_by.add(document["replica"])
    assert not load.failures, load.failures[:5]
    assert len(answered_by) >= 3, f"new replicas take part in the work: {answered_by}"
    assert len([p for p in short_lived.processes() if p.startswith("inference-")]) == 2


def test_a_replica_count_out_of_range_is_refused(short_lived: RunningMesh) -> None:
    with pytest.raises(Failed, match=r"99 is outside 1\.\.4"):
        short_lived.client.scale("inference", 99)
    with pytest.raises(Failed, match="no replicas to scale"):
        short_lived.client.scale("routing", 2)
