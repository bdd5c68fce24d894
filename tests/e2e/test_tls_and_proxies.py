"""TLS with authorities of one's own, mutual TLS, and HTTP proxies, all on loopback."""

from __future__ import annotations

import asyncio
import base64
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from headgate.core.errors import ConfigError
from tests.e2e.conftest import Play, Serve
from tests.support.client import request
from tests.support.upstream import DONE, SSE_HEAD, Drop, Seen, Step, completion, delta, event, plain

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def answers(seen: Seen) -> AsyncIterator[Step]:
    if seen.json.get("stream"):
        yield SSE_HEAD + event(delta("one"))
        yield event(delta("two")) + event(delta(finish="stop")) + DONE
    else:
        yield plain(200, completion())


class Authority:
    """A certificate authority in a folder, made with the `openssl` command."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._openssl(
            "req", "-x509", *self._new_key(self._key), "-out", self.ca, "-subj", "/CN=Test CA", "-days", "2"
        )

    def issue(self, name: str, hosts: str = "DNS:localhost,IP:127.0.0.1") -> tuple[Path, Path]:
        """A certificate and its key."""
        cert, key, wish = (self._folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        self._openssl("req", *self._new_key(key), "-out", wish, "-subj", f"/CN={name}")
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={hosts}\n")
        self._openssl(
            "x509", "-req", "-in", wish, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
            "-out", cert, "-days", "2", "-extfile", extensions,
        )  # fmt: skip
        return cert, key

    @staticmethod
    def _new_key(key: Path) -> tuple[str | Path, ...]:
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key

    @staticmethod
    def _openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


@dataclass
class Relay:
    """Takes connections and passes bytes on to a port: behind TLS, as a proxy, or both.

    Args:
        tls: serve TLS with this context.
        target: where to; None: it is a proxy, and each request says where.
        refuses: status with which the proxy refuses everything.
    """

    tls: ssl.SSLContext | None = None
    target: int | None = None
    refuses: int | None = None
    heads: list[bytes] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._main(),), daemon=True
        )
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            port, first = self.target, b""
            if port is None:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                if self.refuses is not None:
                    writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % self.refuses)
                    await writer.drain()
                    return
                method, address, _ = head.split(b" ", 2)
                port = int(address.removeprefix(b"http://").split(b"/")[0].rpartition(b":")[2])
                if method == b"CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\nx-proxy: y\r\n\r\n")
                else:
                    first = head
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            far_writer.write(first)
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server")


@pytest.fixture
def secure(stack: ExitStack, play: Play, certificate: tuple[Path, Path]) -> Relay:
    """An upstream behind TLS."""
    return stack.enter_context(Relay(tls=server_context(certificate), target=play(answers).port))


def server_context(certificate: tuple[Path, Path], clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def model(port: int, scheme: str = "https", host: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    return {
        "m": {
            "backend": "openai-compatible",
            "base_url": f"{scheme}://{host}:{port}/v1",
            "retry": {"attempts": 1},
            **more,
        }
    }


def works(port: int) -> None:
    assert request(port, "POST", CHAT, ASK).json == completion()
    assert b"two" in request(port, "POST", CHAT, {**ASK, "stream": True}).body


def is_unreachable(port: int, *words: str) -> None:
    answer = request(port, "POST", CHAT, ASK)
    assert answer.status == 502
    assert answer.error["code"] == "upstream_unreachable"
    for word in words:
        assert word in answer.error["message"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_authority_of_ones_own(serve: Serve, authority: Authority, secure: Relay, host: str) -> None:
    server = serve(models=model(secure.port, host=host, ca_file=str(authority.ca)))
    works(server.port)


def test_wrong_authority_is_named(serve: Serve, stranger: Authority, secure: Relay) -> None:
    server = serve(models=model(secure.port, ca_file=str(stranger.ca)))
    is_unreachable(server.port, f"https://127.0.0.1:{secure.port}", "certificate")


def test_system_authorities_do_not_know_ours(serve: Serve, secure: Relay) -> None:
    server = serve(models=model(secure.port))
    is_unreachable(server.port, "certificate")


def test_certificate_for_another_host(
    serve: Serve, stack: ExitStack, play: Play, authority: Authority
) -> None:
    certificate = authority.issue("elsewhere", "DNS:elsewhere.test")
    tls = stack.enter_context(Relay(tls=server_context(certificate), target=play(answers).port))
    server = serve(models=model(tls.port, ca_file=str(authority.ca)))
    is_unreachable(server.port, "certificate")


def test_tls_to_a_plain_port(serve: Serve, play: Play, authority: Authority) -> None:
    models = model(play(answers).port, ca_file=str(authority.ca), timeouts={"connect": "300ms"})
    answer = request(serve(models=models).port, "POST", CHAT, ASK)  # each waits for the other to begin
    assert (answer.status, answer.error["code"]) == (504, "connect_timeout")


def test_mutual_tls(
    serve: Serve, stack: ExitStack, play: Play, authority: Authority, certificate: tuple[Path, Path]
) -> None:
    context = server_context(certificate, clients=authority.ca)
    tls = stack.enter_context(Relay(tls=context, target=play(answers).port))
    cert, key = authority.issue("client")
    both = {"ca_file": str(authority.ca), "client_cert": str(cert), "client_key": str(key)}
    works(serve(models=model(tls.port, **both)).port)
    without = serve(models=model(tls.port, ca_file=str(authority.ca)))
    answer = request(without.port, "POST", CHAT, ASK)  # in TLS 1.3 the refusal comes after the handshake
    assert answer.status == 502


@pytest.mark.parametrize("field", ["ca_file", "client_cert"])
def test_file_that_is_no_certificate_fails_the_start(tmp_path: Path, serve: Serve, field: str) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"wrong\.pem"):
        serve(models=model(1, **{field: str(wrong)}))


# Proxies.


def basic(user: str, password: str) -> bytes:
    return b"proxy-authorization: Basic " + base64.b64encode(f"{user}:{password}".encode())


def test_plain_origin_through_a_proxy(serve: Serve, stack: ExitStack, play: Play) -> None:
    upstream = play(answers)
    proxy = stack.enter_context(Relay())
    server = serve(models=model(upstream.port, "http", proxy=f"http://us%65r:p%40ss@127.0.0.1:{proxy.port}"))
    works(server.port)
    head = proxy.heads[0]
    assert head.startswith(b"POST http://127.0.0.1:%d/v1/chat/completions HTTP/1.1\r\n" % upstream.port)
    assert basic("user", "p@ss") in head
    assert b"host: 127.0.0.1:%d\r\n" % upstream.port in head


def test_tls_origin_through_a_tunnel(
    serve: Serve, stack: ExitStack, authority: Authority, secure: Relay
) -> None:
    proxy = stack.enter_context(Relay())
    server = serve(
        models=model(
            secure.port,
            host="localhost",
            ca_file=str(authority.ca),
            api_key="for-the-upstream-alone",
            proxy=f"http://user:pass@127.0.0.1:{proxy.port}",
        )
    )
    works(server.port)
    head = proxy.heads[0]
    assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % secure.port)
    assert basic("user", "pass") in head
    assert b"for-the-upstream-alone" not in head
    assert len(proxy.heads) == 1  # the tunnel is kept


@pytest.mark.parametrize("status", [403, 407, 502])
def test_proxy_that_refuses_a_tunnel(
    serve: Serve, stack: ExitStack, authority: Authority, secure: Relay, status: int
) -> None:
    proxy = stack.enter_context(Relay(refuses=status))
    server = serve(
        models=model(
            secure.port, ca_file=str(authority.ca), proxy=f"http://user:secret@127.0.0.1:{proxy.port}"
        )
    )
    is_unreachable(server.port, f"127.0.0.1:{proxy.port}", str(status))
    assert "secret" not in request(server.port, "POST", CHAT, ASK).body.decode()


def test_proxy_that_is_not_there(serve: Serve, authority: Authority, secure: Relay) -> None:
    with Relay() as gone:
        port = gone.port
    for scheme in ("http", "https"):
        server = serve(models=model(secure.port, scheme, proxy=f"http://127.0.0.1:{port}"))
        is_unreachable(server.port, "proxy", str(port))


def test_proxy_that_closes_or_talks_nonsense(serve: Serve, play: Play, secure: Relay) -> None:
    async def closes(_: Seen) -> AsyncIterator[Step]:
        yield Drop()

    async def nonsense(_: Seen) -> AsyncIterator[Step]:
        yield b"220 mail.example ESMTP\r\n\r\n"

    async def endless(_: Seen) -> AsyncIterator[Step]:
        yield b"HTTP/1.1 200 OK\r\nx: " + b"v" * 1_000_000

    for script in (closes, nonsense, endless):
        server = serve(models=model(secure.port, proxy=play(script).url))
        is_unreachable(server.port)


def test_environment_proxies_are_not_for_loopback(
    serve: Serve, stack: ExitStack, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = stack.enter_context(Relay())
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    for host in ("127.0.0.1", "localhost"):
        works(serve(models=model(play(answers).port, "http", host=host)).port)
    assert proxy.heads == []


def test_environment_proxies_for_other_hosts(
    serve: Serve, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    proxy = stack.enter_context(Relay(refuses=403))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    for scheme, start in (("https", b"CONNECT api.test:9 "), ("http", b"POST http://api.test:9/v1/")):
        server = serve(models=model(9, scheme, host="api.test"))
        assert request(server.port, "POST", CHAT, ASK).status in (403, 502)
        assert proxy.heads.pop().startswith(start)

    server = serve(models=model(9, "http", host="api.test", proxy="none", timeouts={"connect": "1s"}))
    assert request(server.port, "POST", CHAT, ASK).status in (502, 504)
    monkeypatch.setenv("no_proxy", "other.test, .test")
    server = serve(models=model(9, "http", host="api.test", timeouts={"connect": "1s"}))
    assert request(server.port, "POST", CHAT, ASK).status in (502, 504)
    assert proxy.heads == []
