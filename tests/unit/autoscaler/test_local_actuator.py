"""The supervisor's control API as the actuator reads it, over a real Unix socket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.autoscaler.actuators import ActuatorError, ReplicaStatus
from services.autoscaler.actuators.local import LocalActuator
from tests.unit.autoscaler.conftest import Supervisor

T = TypeVar("T")


def asked(supervisor: Supervisor, call: Callable[[LocalActuator], Awaitable[T]], timeout_s: float = 1.0) -> T:
    async def run() -> T:
        actuator = LocalActuator(supervisor.socket, timeout_s)
        await actuator.start()
        try:
            return await call(actuator)
        finally:
            await actuator.close()

    return asyncio.run(run())


def test_it_reads_and_scales(supervisor: Supervisor) -> None:
    async def both(actuator: LocalActuator) -> ReplicaStatus:
        supervisor.utilisation = 0.5
        await actuator.scale("inference", 3)
        return await actuator.observe("inference")

    assert asked(supervisor, both) == ReplicaStatus(
        wanted=3,
        ready=3,
        starting=0,
        draining=0,
        minimum=1,
        maximum=4,
        start_delay_s=1.5,
        utilisation=(0.5, 0.5, 0.5),
    )
    assert supervisor.scaled == [3]


def test_only_settled_ready_replicas_are_measured(supervisor: Supervisor) -> None:
    class Young(Supervisor):
        """Four replicas, of which one has been ready for long."""

        def document(self) -> dict[str, Any]:
            now = time.time()
            rows = [("ready", 60, 0.3), ("ready", 1, 9.0), ("ready", 60, None), ("failed", 60, 0.0)]
            return super().document() | {
                "replicas": [
                    {"instance": f"inference-{n}", "state": state, "since": now - ago, "cpu_utilisation": cpu}
                    for n, (state, ago, cpu) in enumerate(rows)
                ]
            }

    supervisor.down()
    young = Young(supervisor.socket)
    young.up()
    try:
        assert asked(young, lambda actuator: actuator.observe("inference")).utilisation == (0.3,)
    finally:
        young.close()


def test_what_goes_wrong_says_what_and_why(supervisor: Supervisor) -> None:
    with pytest.raises(ActuatorError, match="status 422"):
        asked(supervisor, lambda actuator: actuator.observe("elsewhere"))
    with pytest.raises(ActuatorError, match="status 422"):
        asked(supervisor, lambda actuator: actuator.scale("inference", 9))
    supervisor.answer_s = 1.0
    with pytest.raises(ActuatorError, match=r"no answer in 0\.1 s"):
        asked(supervisor, lambda actuator: actuator.observe("inference"), timeout_s=0.1)
    supervisor.answer_s = 0.0
    supervisor.start_delay_s = "soon"  # type: ignore[assignment]
    with pytest.raises(ActuatorError, match="cannot be read"):
        asked(supervisor, lambda actuator: actuator.observe("inference"))
    supervisor.down()
    with pytest.raises(ActuatorError, match=r"cannot be reached, control\.sock"):
        asked(supervisor, lambda actuator: actuator.observe("inference"))
    with pytest.raises(ActuatorError, match="not started"):
        asyncio.run(LocalActuator(supervisor.socket).observe("inference"))


def test_policies_need_nothing_of_the_service() -> None:
    code = (
        "import sys, services.autoscaler.policies, services.autoscaler.capacity;"
        "print({'aiohttp', 'fastapi', 'pydantic', 'prometheus_client', 'numba'} & set(sys.modules))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "set()"
