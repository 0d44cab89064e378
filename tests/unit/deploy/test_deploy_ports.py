"""Ports: free ones only, and none twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from deploy.local.ports import NoFreePort, Ports, is_free


@pytest.fixture
def base(free_port: int) -> int:
    """A port base with room above it."""
    return min(free_port, 60_000)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_port_somebody_listens_on_is_not_free(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert not is_free(port)
    listener.close()
    assert is_free(port)


def test_a_port_whose_connections_linger_is_free(listener: socket.socket) -> None:
    """A server that closed first leaves TIME_WAIT behind; its successor may have the port at once."""
    port = listener.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    server, _ = listener.accept()
    server.close()
    client.recv(1)
    client.close()
    listener.close()
    assert is_free(port)


def test_ports_are_above_those_for_people_and_none_comes_twice(base: int) -> None:
    ports = Ports(base)
    given = [ports.free() for _ in range(150)]
    assert len(set(given)) == 150
    assert min(given) >= base + 10


def test_a_bound_port_is_passed_over(listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    ports = Ports(taken - 10)
    assert taken not in {ports.free() for _ in range(50)}


def test_it_starts_over_at_the_end_of_the_range(base: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ports, "SPAN", 15)
    ports = Ports(base)
    given = [ports.free() for _ in range(20)]
    assert set(given) <= set(range(base + 10, base + 16))
    assert len(set(given)) < len(given)


def test_a_range_without_a_free_port_names_the_way_out(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ports, "SPAN", 11)
    taken = listener.getsockname()[1]
    ports = Ports(taken - 10)
    ports._last = taken
    with pytest.raises(NoFreePort, match="--port-base"):
        for _ in range(5):
            ports.free()
