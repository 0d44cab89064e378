"""What a sidecar's internal port really speaks, seen from outside: its certificate, and whether it takes plaintext."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass

from cryptography import x509

PROBE_TIMEOUT_S = 2.0
_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
)  # and an empty SETTINGS frame
_SETTINGS = 4


@dataclass(frozen=True)
class Identity:
    """`mtls` is True only if the port shows a SPIFFE certificate *and* does not answer plaintext HTTP/2."""

    spiffe_id: str
    not_after: float
    mtls: bool


async def observe(port: int) -> Identity:
    """Dial 127.0.0.1:port with TLS and without. Raises OSError when nothing listens."""
    plaintext = await answers_plaintext(port)
    certificate = await peer_certificate(port)
    if certificate is None:
        return Identity("", 0.0, False)
    uris: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    spiffe = next((u for u in uris if u.startswith("spiffe://")), "")
    return Identity(spiffe, certificate.not_valid_after_utc.timestamp(), bool(spiffe) and not plaintext)


async def peer_certificate(port: int) -> x509.Certificate | None:
    """The server's leaf certificate, or None if it does not speak TLS. Trust is not judged here: we only look."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except (ssl.SSLError, ConnectionResetError, TimeoutError):
        return None
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der) if der else None
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await writer.wait_closed()


async def answers_plaintext(port: int) -> bool:
    """True if the port answers an HTTP/2 preface without TLS, as a plaintext gRPC server does."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_PREFACE)
                await writer.drain()
                frame = await reader.readexactly(9)
                return frame[3] == _SETTINGS
            finally:
                writer.close()
    except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError, TimeoutError):
        return False
