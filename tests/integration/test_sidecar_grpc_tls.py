"""TLS of the gRPC listener, and towards Qdrant."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from tests.support.grpc_upstream import serve
from tests.support.sidecar_grpc import settings_for, start
from trimtab.addresses import Address, Origin
from trimtab.errors import ConfigError


def test_tls_on_both_sides_with_a_client_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for who in ("server", "client"):
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / f"{who}.key")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (tmp_path / f"{who}.pem").write_bytes(chain)

    async def script(name: str, requests: Any, context: Any) -> None:
        assert context.auth_context()["transport_security_type"] == [b"ssl"]
        assert context.peer_identities() is not None
        async for message in requests:
            await context.write(message)

    async def talk() -> None:
        ca, key, chain = (
            (tmp_path / name).read_bytes() for name in ("ca.pem", "server.key", "server.pem")
        )
        asked = grpc.ssl_server_credentials([(key, chain)], ca, require_client_auth=True)
        upstream, upstream_port = await serve(script, credentials=asked)
        settings = settings_for()
        listen = replace(
            settings.listen, certificate=tmp_path / "server.pem", key=tmp_path / "server.key"
        )
        known = replace(
            settings.upstream,
            grpc=(Origin(Address("localhost", upstream_port), is_tls=True),),
            ca=tmp_path / "ca.pem",
            certificate=tmp_path / "client.pem",
            key=tmp_path / "client.key",
        )
        sidecar, port = await start(replace(settings, listen=listen, upstream=known))
        trusted = grpc.ssl_channel_credentials(ca)
        async with grpc.aio.secure_channel(f"localhost:{port}", trusted) as channel:
            for method in ("/qdrant.Points/Get", "/new.Thing/Do"):
                assert await channel.unary_unary(method)(b"hello", timeout=20) == b"hello"
        await sidecar.drain(0)
        await upstream.stop(0)

    asyncio.run(talk())


@pytest.mark.parametrize("content", [None, "no PEM"])
@pytest.mark.parametrize("side", ["listen", "upstream"])
def test_a_certificate_that_is_unusable_is_named(
    side: str, content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.pem"
    if content is not None:
        path.write_text(content)
    settings = settings_for()
    if side == "listen":
        settings = replace(settings, listen=replace(settings.listen, certificate=path))
    else:
        origin = Origin(Address("localhost", 1), is_tls=True)
        settings = replace(settings, upstream=replace(settings.upstream, grpc=(origin,), ca=path))

    async def listen() -> None:
        with pytest.raises(ConfigError, match=r"wrong\.pem"):
            await start(settings)

    asyncio.run(listen())
