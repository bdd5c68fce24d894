"""AWS signatures: those of the book and of the SDK, with keys of the usual chain."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import importlib
import logging
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from headgate.core.backend import RawHeaders
from headgate.core.errors import Unavailable
from headgate.dialects.bedrock import CONVERSE
from headgate.upstream.credentials import (
    LARGE_BODY,
    SigV4,
)

REQUEST = ("POST", "upstream.example", "/v1/x?y=z", b"{}")
NOW = datetime.datetime(2026, 11, 20, 12, 34, 56)  # noqa: DTZ001 - as botocore has it
ARN = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-v1:0"
KEY = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG"}


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
