"""Signatures and tokens: made right, fetched once for all that wait, renewed ahead, never shown."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import http.server
import importlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from typing_extensions import override

from headgate.core.backend import RawHeaders
from headgate.core.errors import MissingExtra, Unavailable
from headgate.dialects.bedrock import CONVERSE
from headgate.upstream import credentials
from headgate.upstream.credentials import (
    LARGE_BODY,
    Credentials,
    EntraToken,
    GoogleServiceAccount,
    OAuthToken,
    SigV4,
    StaticKey,
)

REQUEST = ("POST", "upstream.example", "/v1/x?y=z", b"{}")
NOW = datetime.datetime(2026, 11, 20, 12, 34, 56)  # noqa: DTZ001 - as botocore has it
ARN = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-v1:0"
CROWD = 20
KEY = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG"}


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


# AWS signatures.


@pytest.fixture
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("botocore.auth"), "get_current_datetime", lambda: NOW)


def authorization(
    method: str, target: str, headers: dict[str, str], body: bytes, region: str = "eu-west-1"
) -> str:
    """Signature Version 4 by the book, with KEY: the path escaped once more than it is sent."""
    path, _, query = target.partition("?")
    names = ";".join(sorted(headers))
    lines = [method, quote(path, safe="/~"), query]
    lines += [f"{name}:{headers[name]}" for name in sorted(headers)]
    lines += ["", names, hashlib.sha256(body).hexdigest()]
    scope = f"{NOW:%Y%m%d}/{region}/bedrock/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{NOW:%Y%m%dT%H%M%SZ}\n{scope}\n{digest}"
    key = f"AWS4{KEY['secret_key']}".encode()
    for step in scope.split("/"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"{KEY['access_key']}/{scope}"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"


def signed(credentials: SigV4, method: str, host: str, path_and_query: str, body: bytes) -> dict[str, str]:
    headers = asyncio.run(credentials.headers(method, host, path_and_query, body))
    return {name.decode(): value.decode() for name, value in headers}


@pytest.mark.usefixtures("fixed_time")
@pytest.mark.parametrize("session_token", [None, "TOKEN"])
@pytest.mark.parametrize("model", ["anthropic.claude-v2", "eu.amazon.nova-pro-v1:0", ARN, "a b/ü~"])
def test_signatures_are_those_of_the_book(model: str, session_token: str | None) -> None:
    host, target, body = "bedrock.local:8443", CONVERSE.path(model, True), b'{"a": 1}'
    made = signed(SigV4("eu-west-1", **KEY, session_token=session_token), "POST", host, target, body)
    expected = {"host": host, "x-amz-date": "20261120T123456Z"}
    if session_token is not None:
        expected["x-amz-security-token"] = session_token
    assert made.pop("authorization") == authorization("POST", target, expected, body)
    assert made | {"host": host} == expected


@pytest.mark.usefixtures("fixed_time")
def test_queries_are_signed_in_order() -> None:
    made = signed(SigV4("eu-west-1", **KEY), "GET", "h", "/x?b=2&a=1", b"")
    headers = {"host": "h", "x-amz-date": "20261120T123456Z"}
    assert made["authorization"] == authorization("GET", "/x?a=1&b=2", headers, b"")


@pytest.mark.usefixtures("fixed_time")
@pytest.mark.parametrize("model", ["eu.amazon.nova-pro-v1:0", ARN])
def test_the_sdk_sends_the_same_path_and_signs_it_so(model: str) -> None:
    """What boto's own client sends is signed as we sign, path and all."""
    session = importlib.import_module("botocore.session").Session()
    config = importlib.import_module("botocore.config").Config(retries={"total_max_attempts": 1})
    client = session.create_client(
        "bedrock-runtime",
        region_name="eu-west-1",
        aws_access_key_id=KEY["access_key"],
        aws_secret_access_key=KEY["secret_key"],
        config=config,
    )
    caught: list[Any] = []

    def before_send(request: Any, **kwargs: Any) -> Any:
        caught.append(request)
        response = importlib.import_module("botocore.awsrequest").AWSResponse(request.url, 200, {}, None)
        response._content = b"{}"
        return response

    client.meta.events.register("before-send.bedrock-runtime.Converse", before_send)
    client.converse(modelId=model, messages=[{"role": "user", "content": [{"text": "Hi"}]}])
    client.close()
    (request,) = caught
    url = urlsplit(request.url)
    assert url.path == CONVERSE.path(model, False)
    sent = {name.lower(): value for name, value in request.headers.items()}
    sent = {name: value.decode() if isinstance(value, bytes) else value for name, value in sent.items()}
    theirs = sent["authorization"]
    names = theirs.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: sent.get(name, url.netloc) for name in names}
    assert theirs == authorization("POST", url.path, headers, request.body)
    ours = signed(SigV4("eu-west-1", **KEY), "POST", url.netloc, url.path, request.body)
    mine = {"host": url.netloc, "x-amz-date": ours["x-amz-date"]}
    assert ours["authorization"] == authorization("POST", url.path, mine, request.body)


@pytest.mark.usefixtures("fixed_time")
def test_a_long_body_is_signed_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    sign = SigV4._fields

    def noted(self: SigV4, *args: Any) -> RawHeaders:
        threads.append(threading.current_thread().name)
        return sign(self, *args)

    monkeypatch.setattr(SigV4, "_fields", noted)
    for size in (LARGE_BODY, LARGE_BODY + 1):
        made = signed(SigV4("eu-west-1", **KEY), "POST", "h", "/", bytes(size))
        headers = {"host": "h", "x-amz-date": "20261120T123456Z"}
        assert made["authorization"] == authorization("POST", "/", headers, bytes(size))
    assert threads[0] == threading.main_thread().name
    assert threads[1] != threads[0]


def test_the_usual_chain_is_asked_in_a_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    made = signed(SigV4("eu-west-1"), *REQUEST)
    assert "Credential=AKIDENV/" in made["authorization"]
    (tmp_path / "credentials").write_text("[ops]\naws_access_key_id = AKIDOPS\naws_secret_access_key = s\n")
    assert "Credential=AKIDOPS/" in signed(SigV4("eu-west-1", profile="ops"), *REQUEST)["authorization"]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Unavailable, match="no AWS credentials"):
        signed(SigV4("eu-west-1"), *REQUEST)
    with pytest.raises(Unavailable, match="ProfileNotFound"):
        signed(SigV4("eu-west-1", profile="none"), *REQUEST)


def test_temporary_keys_are_renewed_ahead_of_their_expiry() -> None:
    module = importlib.import_module("botocore.credentials")
    fetched: list[int] = []

    def metadata(minutes: int) -> dict[str, str]:
        fetched.append(minutes)
        expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
        return {
            "access_key": f"AKID{len(fetched)}",
            "secret_key": "s",
            "token": "t",
            "expiry_time": expiry.isoformat(),
        }

    source = module.RefreshableCredentials.create_from_metadata(
        metadata(4), lambda: metadata(60), "test", advisory_timeout=1, mandatory_timeout=0
    )

    async def scenario() -> None:
        signer = SigV4("eu-west-1", **KEY)
        signer._source = source
        assert b"AKID1/" in dict(await signer.headers(*REQUEST))[b"authorization"]
        source._advisory_refresh_timeout, source._mandatory_refresh_timeout = 900, 600
        signer._landed_at = float("-inf")
        assert signer.ready()  # 4 minutes are less than EARLY: the fetch starts
        flight = signer._flight
        assert flight is not None
        await flight
        assert b"AKID2/" in dict(signer.sign(*REQUEST))[b"authorization"]
        assert signer.ready()
        assert signer._flight is None

    asyncio.run(scenario())
    assert fetched == [4, 60]


def test_the_signer_never_logs_what_it_signs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        signed(SigV4("eu-west-1", **KEY, session_token="TOKEN"), *REQUEST)
    assert "TOKEN" not in caplog.text
