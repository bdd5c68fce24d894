"""Signatures and tokens: made right, fetched once for all that wait, renewed ahead, never shown."""

from __future__ import annotations

import asyncio
import http.server
import importlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from headgate.core.backend import RawHeaders
from headgate.core.errors import MissingExtra, Unavailable
from headgate.upstream import credentials
from headgate.upstream.credentials import (
    Credentials,
    EntraToken,
    GoogleServiceAccount,
    OAuthToken,
    SigV4,
    StaticKey,
)

REQUEST = ("POST", "upstream.example", "/v1/x?y=z", b"{}")
CROWD = 20


class Clock:
    """In place of the module's `time`: both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(credentials, "time", clock)
    return clock


class Scripted(OAuthToken):
    """Tokens "t1", "t2", … that last an hour; a fetch waits for `gate` and may fail."""

    what = "The tokens"
    remedy = "Look there."

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.gate = threading.Event()
        self.gate.set()
        self.fetched = 0
        self.lifetime = 3600.0
        self.error: Exception | None = None
        self.waiting = 0
        self.all_wait = asyncio.Event()

    @override
    async def _renew(self) -> None:
        self.waiting += 1
        if self.waiting == CROWD:
            self.all_wait.set()
        await super()._renew()

    @override
    def _token(self) -> tuple[str, float]:
        assert self.gate.wait(10)
        self.fetched += 1
        if self.error is not None:
            raise self.error
        return f"t{self.fetched}", self.clock.now + self.lifetime


def bearer(headers: RawHeaders) -> bytes:
    ((name, value),) = headers
    assert name == b"authorization"
    return value.removeprefix(b"Bearer ")


async def landed(token: Scripted) -> None:
    """The fetch under way has ended."""
    if token._flight is not None:
        await asyncio.wait([token._flight])


def test_a_static_key_is_one_field_and_not_shown() -> None:
    key = StaticKey(b"x-api-key", b"hush")
    assert key.ready()
    assert key.sign(*REQUEST) == asyncio.run(key.headers(*REQUEST)) == ((b"x-api-key", b"hush"),)
    key.invalidate()
    assert key.ready()
    assert "hush" not in repr(key)


def test_all_that_wait_share_one_fetch(clock: Clock) -> None:
    async def scenario() -> None:
        token = Scripted(clock)
        token.gate.clear()
        assert not token.ready()
        with pytest.raises(Unavailable):
            token.sign(*REQUEST)
        waiting = [asyncio.create_task(token.headers(*REQUEST)) for _ in range(CROWD)]
        await token.all_wait.wait()
        waiting[0].cancel()  # who leaves does not take it from the others
        token.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert {bearer(each) for each in results[1:] if not isinstance(each, BaseException)} == {b"t1"}
        assert (token.fetched, token.ready()) == (1, True)
        assert bearer(token.sign(*REQUEST)) == b"t1"
        assert "t1" not in repr(token._grant)

    asyncio.run(scenario())


def test_a_token_is_renewed_ahead_of_its_expiry_while_it_serves(clock: Clock) -> None:
    async def scenario() -> None:
        token = Scripted(clock)
        await token.headers(*REQUEST)
        clock.now += 3600 - 299
        token.gate.clear()
        assert token.ready()  # starts the fetch
        assert token.ready()  # and not another one
        assert bearer(token.sign(*REQUEST)) == b"t1"
        token.gate.set()
        await landed(token)
        assert bearer(token.sign(*REQUEST)) == b"t2"
        assert token.fetched == 2

    asyncio.run(scenario())


def test_a_token_that_has_expired_is_not_sent(clock: Clock) -> None:
    async def scenario() -> None:
        token = Scripted(clock)
        await token.headers(*REQUEST)
        clock.now += 3600 - 29
        assert not token.ready()
        with pytest.raises(Unavailable):
            token.sign(*REQUEST)
        assert bearer(await token.headers(*REQUEST)) == b"t2"

    asyncio.run(scenario())


def test_a_renewal_that_fails_leaves_the_old_token_and_is_not_hurried(clock: Clock) -> None:
    async def scenario() -> None:
        token = Scripted(clock)
        await token.headers(*REQUEST)
        clock.now += 3600 - 200
        token.error = RuntimeError("secret text")
        for _ in range(5):
            assert token.ready()
            await landed(token)
        assert token.fetched == 2
        clock.now += 11
        token.error = None
        assert token.ready()
        await landed(token)
        assert bearer(token.sign(*REQUEST)) == b"t3"

    asyncio.run(scenario())


def test_a_failure_is_told_without_its_text_and_remembered_for_a_while(clock: Clock) -> None:
    async def scenario() -> None:
        token = Scripted(clock)
        token.error = RuntimeError("secret text")
        for _ in range(3):
            with pytest.raises(Unavailable) as raised:
                await token.headers(*REQUEST)
            assert raised.value.message == "The tokens could not be had (RuntimeError). Look there."
        assert token.fetched == 1
        clock.now += 11
        token.error = None
        assert bearer(await token.headers(*REQUEST)) == b"t2"

    asyncio.run(scenario())


def test_a_token_that_comes_expired_is_a_failure(clock: Clock) -> None:
    token = Scripted(clock)
    token.lifetime = 5
    with pytest.raises(Unavailable, match="had expired"):
        asyncio.run(token.headers(*REQUEST))


def test_a_refused_token_is_fetched_anew_but_not_in_a_storm(clock: Clock) -> None:
    async def scenario() -> None:
        token = Scripted(clock)
        await token.headers(*REQUEST)
        token.invalidate()
        assert token.ready()  # it has just come: refused for another reason
        clock.now += 11
        token.invalidate()
        assert not token.ready()
        assert bearer(await token.headers(*REQUEST)) == b"t2"

    asyncio.run(scenario())


# Entra ID and Google.


class _AzureToken:
    def __init__(self, token: str, expires_on: float) -> None:
        self.token, self.expires_on = token, expires_on


def azure(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[tuple[Any, ...]]:
    made: list[tuple[Any, ...]] = []

    class Source:
        def __init__(self, *args: Any) -> None:
            made.append(args)

        def get_token(self, scope: str) -> _AzureToken:
            return _AzureToken(f"{scope} {len(made)}", clock.now + 3600)

    identity = importlib.import_module("azure.identity")
    monkeypatch.setattr(identity, "ClientSecretCredential", Source)
    monkeypatch.setattr(identity, "DefaultAzureCredential", Source)
    return made


def test_entra_tokens(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    made = azure(monkeypatch, clock)

    async def scenario() -> None:
        token = EntraToken("tenant", "client", "secret", scope="s")
        assert bearer(await token.headers(*REQUEST)) == b"s 1"
        clock.now += 20
        token.invalidate()
        assert bearer(await token.headers(*REQUEST)) == b"s 2"
        assert bearer(await EntraToken(scope="d").headers(*REQUEST)) == b"d 3"

    asyncio.run(scenario())
    assert made == [("tenant", "client", "secret"), ("tenant", "client", "secret"), ()]


@pytest.fixture
def token_server() -> Iterator[tuple[str, list[str]]]:
    """An OAuth server on loopback: gives "goog-1" and so on for any assertion."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.rfile.read(int(self.headers["content-length"])).decode())
            body = json.dumps({"access_token": f"goog-{len(seen)}", "expires_in": 3600}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_google_service_accounts(
    tmp_path: Path, token_server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    rsa = importlib.import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    form = importlib.import_module("cryptography.hazmat.primitives.serialization")
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
    url, seen = token_server
    key_file = tmp_path / "key.json"
    key_file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "x@y.iam.gserviceaccount.com",
                "private_key": pem.decode(),
                "private_key_id": "k",
                "token_uri": url,
            }
        )
    )

    async def scenario() -> None:
        token = GoogleServiceAccount(key_file)
        assert bearer(await token.headers(*REQUEST)) == b"goog-1"
        assert token.ready()
        assert bearer(token.sign(*REQUEST)) == b"goog-1"

    asyncio.run(scenario())
    assert len(seen) == 1
    assert "assertion=" in seen[0]


def test_a_key_file_that_is_none_is_told(tmp_path: Path) -> None:
    key_file = tmp_path / "key.json"
    key_file.write_text("{}")
    with pytest.raises(Unavailable, match="service account's key file") as raised:
        asyncio.run(GoogleServiceAccount(key_file).headers(*REQUEST))
    assert str(tmp_path) not in raised.value.message


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [
        (lambda: SigV4("eu-west-1"), "botocore.auth", "bedrock"),
        (EntraToken, "azure.identity", "azure"),
        (GoogleServiceAccount, "google.auth", "vertex"),
        (GoogleServiceAccount, "google.auth.transport.requests", "vertex"),
    ],
)
def test_a_missing_library_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Credentials], module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'headgate\[{extra}\]'"):
        make()
