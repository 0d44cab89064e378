"""Free loopback ports above a mesh's base. A port is tried by binding it and not handed out twice in a run."""

from __future__ import annotations

import socket


class NoFreePort(Exception):
    """Nothing is free in the range; another mesh may have the same port base."""


class Ports:
    # Meshes stand at least 200 apart (`foremesh up --help`); that is room for sixteen replicas and their restarts.
    SPAN = 200

    def __init__(self, base: int) -> None:
        self._first = base + 10
        self._last = min(base + self.SPAN, 65535)
        self._next = self._first

    def free(self) -> int:
        """The next free port; wraps around, so a long run with many restarts does not run out."""
        for _ in range(self._last - self._first):
            port = self._next
            self._next = self._first if port >= self._last else port + 1
            if is_free(port):
                return port
        raise NoFreePort(f"no free port between {self._first} and {self._last}; choose another --port-base")


def is_free(port: int) -> bool:
    with socket.socket() as s:
        # What a listener sets, so that a port in TIME_WAIT counts as free to us as it is to it.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
