"""Ray Serve: `python -m lab.rivals.ray_server FOLDER PORT WORK`, a cluster of its own on loopback.

As its documentation has it for throughput: `serve.batch` without a wait, one replica, `max_ongoing_requests` above the
clients' number, RAY_SERVE_THROUGHPUT_OPTIMIZED, access log off. In that mode the replica answers HTTP itself, which
is what is measured: PORT is the replica's own. Ray puts HAProxy before it; that listens on every address of the machine
and would only add a hop. Ray's Python proxy, on PORT + 1, stands idle: what goes through it is far slower.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

# Read when the package is imported: no usage statistics, its mode for throughput, this machine alone.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the one setting that puts its processes on the loopback address
}

import ray
from ray import serve
from starlette.requests import Request

from lab.rivals.model import MOST_TOGETHER, Model


class Intents:
    """The model behind `POST /`."""

    def __init__(self, folder: str) -> None:
        inner_port_on_loopback()
        self._model = Model(Path(folder))

    @serve.batch(max_batch_size=MOST_TOGETHER, batch_wait_timeout_s=0.0)
    async def labels(self, texts: list[str]) -> list[str]:
        """The label of each text of the batch that the server has put together."""
        return self._model.labels(texts)

    async def __call__(self, request: Request) -> dict[str, str]:
        """Answers one request."""
        return {"intent": await self.labels((await request.json())["text"])}


def inner_port_on_loopback() -> None:
    """A replica's port for other replicas is bound to every address, and no setting says otherwise."""
    from ray.serve._private import replica  # noqa: PLC0415 (in the replica's process)

    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(
        server, address.replace("[::]", "127.0.0.1")
    )


def main() -> None:
    """Serves until it is ended."""
    folder, port, work = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    os.environ |= {
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 1),  # itself left out
        "AUTOSCALER_METRIC_PORT": str(port + 2),
        "DASHBOARD_METRIC_PORT": str(port + 3),
    }
    ray.init(
        _node_ip_address="127.0.0.1",
        _temp_dir=work,
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        logging_level=logging.WARNING,
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": port + 1}, logging_config={"enable_access_log": False}
    )
    deployed = serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})(
        Intents
    )
    serve.run(
        deployed.bind(folder), name="intent", route_prefix="/", logging_config={"enable_access_log": False}
    )
    signal.pause()


if __name__ == "__main__":
    main()
