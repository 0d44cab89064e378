"""Connections that are open and say nothing: what each costs a server in memory."""

from __future__ import annotations

import contextlib
import http.client
import resource
from collections.abc import Iterator, Mapping

_WITHIN_S = 5.0
_SPARE_FILES = 256  # of this process, beside the connections


@contextlib.contextmanager
def idle_connections(port: int, path: str, headers: Mapping[str, str], count: int) -> Iterator[None]:
    """``count`` connections to a port of this machine, each answered once, open until the end of the block.

    Raises OSError where one is not answered with 200, or this process may not have so many files open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise OSError(
                f"{count} connections need {needed} open files and {hard} are allowed; see ulimit -Hn"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WITHIN_S)
            opened.callback(connection.close)
            try:
                connection.request("GET", path, headers=dict(headers))
                answer = connection.getresponse()
                answer.read()
            except http.client.HTTPException as error:
                raise OSError(f"127.0.0.1:{port}{path}: {error!r}") from None
            if answer.status != http.HTTPStatus.OK:
                raise OSError(f"127.0.0.1:{port}{path} answered with status {answer.status}")
        yield
