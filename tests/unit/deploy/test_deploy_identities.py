"""What a port speaks, seen from outside: a SPIFFE certificate, another one, plaintext, nothing."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.identities import observe

SPIFFE = "spiffe://public/ns/default/routing"
SETTINGS_FRAME = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def tls(folder: Path, *names: x509.GeneralName) -> tuple[ssl.SSLContext, x509.Certificate]:
    """A server's TLS context with a certificate made now, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(minutes=5))
    )  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    return context, certificate


async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.close()


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A plaintext gRPC server: answers the preface with its settings."""
    if (await reader.read(100)).startswith(b"PRI"):
        writer.write(SETTINGS_FRAME)
        await writer.drain()
    writer.close()


def look(talk: Talk, context: ssl.SSLContext | None = None) -> tuple[str, float, bool]:
    async def run() -> tuple[str, float, bool]:
        async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context) as server:
            seen = await observe(server.sockets[0].getsockname()[1])
            return seen.spiffe_id, seen.not_after, seen.mtls

    return asyncio.run(run())


def test_a_spiffe_certificate_is_an_identity(tmp_path: Path) -> None:
    names = (x509.DNSName("routing"), x509.UniformResourceIdentifier(SPIFFE))
    context, certificate = tls(tmp_path, *names)
    assert look(listens, context) == (SPIFFE, certificate.not_valid_after_utc.timestamp(), True)


def test_tls_without_a_spiffe_id_is_none(tmp_path: Path) -> None:
    context, _ = tls(tmp_path, x509.DNSName("routing"), x509.UniformResourceIdentifier("https://routing"))
    spiffe_id, not_after, mtls = look(listens, context)
    assert (spiffe_id, mtls) == ("", False)
    assert not_after > 0


def test_a_certificate_without_any_name_is_none(tmp_path: Path) -> None:
    context, _ = tls(tmp_path)
    assert look(listens, context)[::2] == ("", False)


def test_plaintext_is_no_identity() -> None:
    assert look(greets) == ("", 0.0, False)


def test_a_port_that_says_nothing_is_no_identity() -> None:
    assert look(listens) == ("", 0.0, False)


def test_a_certificate_beside_plaintext_is_no_mtls(tmp_path: Path) -> None:
    """A server that takes both on one port must not count: a caller could do without the certificate."""
    context, _ = tls(tmp_path, x509.UniformResourceIdentifier(SPIFFE))

    async def run() -> bool:
        async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = await reader.read(1)
            if first == b"P":
                writer.write(SETTINGS_FRAME)
                await writer.drain()
                writer.close()
                return
            # What it has read so far belongs to the handshake, so that is given on by hand.
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", secured)
            inner_writer.write(first)
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

        async with (
            await asyncio.start_server(listens, "127.0.0.1", 0, ssl=context) as behind,
            await asyncio.start_server(both, "127.0.0.1", 0) as front,
        ):
            secured = behind.sockets[0].getsockname()[1]
            seen = await observe(front.sockets[0].getsockname()[1])
            assert seen.spiffe_id == SPIFFE
            return seen.mtls

    assert asyncio.run(run()) is False


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_nobody_at_the_port_is_an_error(free_port: int) -> None:
    with pytest.raises(OSError):
        asyncio.run(observe(free_port))
