"""The examples of docs/clients.md, run as they stand but for address and key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import anthropic
import openai
import pytest
from google import genai

from tests.e2e.test_tls_and_proxies import Authority, Relay, server_context
from tests.support.server import Running, settings_from

PAGE = (Path(__file__).parents[3] / "docs" / "clients.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
EXPORTS = dict(re.findall(r"^export (\w+)=(\S+)$", PAGE, re.M))
REPLY = "Hello from afar"
KEY = "hg-your-key"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = [{"name": "page", "hash": f"sha256:{sha256(KEY.encode()).hexdigest()}"}]
    models = {"claude": {"backend": "scripted", "reply": REPLY}}
    content = {"server": {"keys": keys}, "models": models}
    with Running(settings_from(tmp_path_factory.mktemp("page"), content)) as running:
        yield running


@pytest.fixture(scope="module")
def secure(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Relay, Path]]:
    authority = Authority(tmp_path_factory.mktemp("tls") / "ours")
    with Relay(tls=server_context(authority.issue("gateway")), target=server.port) as relay:
        yield relay, authority.ca


@pytest.mark.parametrize("example", EXAMPLES, ids=[re.findall(r"import (\w+)", e)[-1] for e in EXAMPLES])
def test_the_example_works(
    example: str,
    server: Running,
    secure: tuple[Relay, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    relay, authority = secure
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    code = example.replace("http://127.0.0.1:8080", server.url)
    code = code.replace("https://gateway.example.com", f"https://127.0.0.1:{relay.port}")
    names: dict[str, object] = {}
    try:
        exec(compile(code, "docs/clients.md", "exec"), names)
    finally:
        client = names.get("client")
        if hasattr(client, "close"):
            client.close()
    printed = capsys.readouterr().out.splitlines()
    assert printed == [REPLY] * example.count("print(")


def test_the_environment_is_enough(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in EXPORTS.items():
        monkeypatch.setenv(name, value.replace("http://127.0.0.1:8080", server.url))
    with openai.OpenAI() as chat:
        answer = chat.responses.create(model="claude", input="Hello!")
        assert answer.output_text == REPLY
    with anthropic.Anthropic() as messages:
        message = messages.messages.create(
            model="claude", max_tokens=50, messages=[{"role": "user", "content": "Hello!"}]
        )
        assert message.content[0].type == "text"
        assert message.content[0].text == REPLY
    gemini = genai.Client()
    try:
        assert gemini.models.generate_content(model="claude", contents="Hello!").text == REPLY
    finally:
        gemini.close()
