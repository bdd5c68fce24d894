"""Every field of every caller's request before every vendor, over real sockets: it arrives, or is named.

The fields are those of `tests.support.fields`. Each request is sent with the field and without it, and once
more where nothing may get lost; what arrived is read with the codec of the upstream's own dialect.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, cast
from urllib.parse import quote

import msgspec
import pytest

from headgate.backends import registry as backends
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, Media, Reasoning, Text, ToolCall, ToolResult
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.registry import dialect
from headgate.dialects.terms import in_callers_terms
from headgate.server.endpoints import HOT_ENDPOINTS
from tests.contract.dialect_cases import GOOD, framing_of, stream_of, whole_of
from tests.support.agent_payload import agent_payload
from tests.support.client import Answer, request
from tests.support.fields.row import Body, Caller, Row
from tests.support.loss_table import CHAT
from tests.support.server import Running, settings_from
from tests.support.upstream import LAST_CHUNK, Seen, Step, Upstream, chunk, head, plain
from tests.unit import test_loss_places as loss_places

AT_ONCE = 16
ROWS = {"responses-only": "tests.e2e.sdk.rows:RESPONSES"}
"""Rows of the registry besides the built-in ones."""
BACKENDS: dict[str, dict[str, Any]] = {
    "openai_chat": {"backend": "openai"},
    "openai_responses": {"backend": "responses-only"},
    "anthropic": {"backend": "anthropic"},
    "gemini": {"backend": "gemini"},
    "converse": {"backend": "bedrock", "region": "eu-central-1"},
}
"""How an upstream of each dialect is reached."""
CHAT_ONLY = "chat-only"
"""Of the same dialect as OpenAI's, but without the legacy completions: for their callers."""
MODELS = {each.dialect: each.model for each in CHAT.upstreams}
CALLERS = {each.dialect: each for each in CHAT.callers}
OF_ANSWERS = re.compile(r"(choices|candidates|output|content)\[\d+\].*|usage.*|created|id|model")
"""Losses of the answer, which are no fields of the request."""
STATE = {"background", "conversation", "previous_response_id", "store"}
"""Fields of the Responses API that the gateway deals with itself, or refuses."""


def codec(name: str) -> ChatDialect:
    return cast("ChatDialect", dialect(name))


def spoken(upstream: str) -> str:
    """The dialect of an upstream."""
    return "openai_chat" if upstream == CHAT_ONLY else upstream


def path_for(caller: str, model: str, stream: bool) -> str:
    found = [each for each in HOT_ENDPOINTS if each.speaks == caller and each.stream in (None, stream)]
    return found[0].path.replace("{model}", quote(model, safe=""))


@dataclass
class Sent:
    """One request, what came of it, and what arrived: nothing where it was refused."""

    answer: Answer
    arrived: bytes | None

    @property
    def lost(self) -> set[str]:
        """The request's losses that the header names."""
        paths = self.answer.headers.get("x-headgate-loss", "").split(", ")
        return {path for path in paths if path and not OF_ANSWERS.fullmatch(path)}


class Site:
    """A gateway before an upstream of each dialect. Requests are told apart by a trace that goes along."""

    def __init__(self, stack: ExitStack, folder: Any) -> None:
        self.arrived: dict[str, bytes] = {}
        models: dict[str, Any] = {}
        for name, options in {**BACKENDS, CHAT_ONLY: {"backend": "groq"}}.items():
            upstream = stack.enter_context(Upstream(self._script(name)))
            version = "/v1" if spoken(name).startswith("openai") else ""
            models[name] = {
                **options,
                "base_url": upstream.url + version,
                "model": MODELS[spoken(name)],
                "api_key": "k",
                "retry": {"attempts": 1},
            }
        settings = settings_from(folder, {"models": models, "server": {"access_log": False}})
        self.server = stack.enter_context(Running(settings))
        self.pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))

    def _script(self, name: str) -> Any:
        async def answers(seen: Seen) -> AsyncIterator[Step]:
            self.arrived[seen.headers["x-request-id"]] = seen.body
            upstream = codec("openai_completions" if seen.path == "/v1/completions" else spoken(name))
            if not (seen.json.get("stream") or "stream" in seen.path.lower()):
                yield plain(200, whole_of(upstream))
                return
            body = b"".join(stream_of(upstream, GOOD))
            yield head(200, upstream.stream_types[framing_of(upstream)]) + chunk(body) + LAST_CHUNK

        return answers

    def send(self, caller: str, upstream: str, body: Body, mark: str, *, strict: bool = False) -> Sent:
        if codec(caller).model_in_body:
            body = {**body, "model": upstream}
        wire = json.dumps(body, indent=1).encode()
        headers = {"content-type": "application/json", "x-request-id": mark, "x-headgate-strict": str(strict)}
        path = path_for(caller, upstream, stream=False)
        answer = request(self.server.port, "POST", path, wire, headers)
        return Sent(answer, self.arrived.get(mark))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(backends, "BUILT_IN", {**backends.BUILT_IN, **ROWS})
        yield Site(stack, tmp_path_factory.mktemp("lossless"))


PAIRS = [
    (caller, CHAT_ONLY if (caller, upstream) == ("openai_completions", "openai_chat") else upstream)
    for caller in CALLERS
    for upstream in BACKENDS
    if caller != upstream
]


@pytest.mark.parametrize(("caller", "upstream"), PAIRS)
def test_every_field_arrives_or_is_named(site: Site, caller: str, upstream: str) -> None:
    rows = [row for row in CALLERS[caller].rows if row.name not in STATE]
    found = site.pool.map(lambda pair: trouble(site, CALLERS[caller], upstream, *pair), enumerate(rows))
    assert [each for each in found if each] == []


def trouble(site: Site, caller: Caller, upstream: str, number: int, row: Row) -> str | None:
    """What is wrong with a field between these two; None where all is well."""
    mark = f"{caller.dialect}-{upstream}-{number}"
    where = f"{row.group} {row.name}"
    asked = site.send(caller.dialect, upstream, row.asked, f"{mark}-asked")
    without = site.send(caller.dialect, upstream, row.without, f"{mark}-without")
    strict = site.send(caller.dialect, upstream, row.asked, f"{mark}-strict", strict=True)
    if asked.answer.status != 200:
        refused = asked.answer.status == 400 and asked.arrived is None and strict.answer.status == 400
        return None if refused else f"{where}: {asked.answer.status} {asked.answer.body[:200]!r}"
    if (strict.answer.status == 400) != bool(asked.lost) or (strict.arrived is None) != bool(asked.lost):
        return f"{where}: strict gives {strict.answer.status}, the header names {asked.lost}"
    if named(row, asked, without) or row.implied is not None:
        return None
    assert asked.arrived is not None
    assert without.arrived is not None
    if asked.arrived == without.arrived:
        return f"{where}: is gone, and nothing says so"
    meant, bare = (read(caller.dialect, body) for body in (row.asked, row.without))
    missing = missing_from(meant - bare, read(spoken(upstream), asked.arrived))
    return f"{where}: of this nothing arrives: {missing}" if missing else None


Facts: TypeAlias = Counter[tuple[str, str]]


def read(name: str, body: Body | bytes) -> Facts:
    """What a request of the dialect says."""
    wire = json.dumps({"model": "m", **body}).encode() if isinstance(body, dict) else body
    found = codec(name)
    return facts(found.decode_request(wire) if found.model_in_body else found.decode_request(wire, model="m"))


def missing_from(meant: Facts, heard: Facts) -> list[tuple[str, str]]:
    """Facts that are not there. Texts may have been joined."""
    joined = "\n".join(text for kind, text in heard if kind == "text")
    return [fact for fact in meant - heard if not (fact[0] == "text" and fact[1] in joined)]


def named(row: Row, asked: Sent, without: Sent) -> bool:
    """The header names a loss that comes of the field: one more than without it, or one of what holds it."""
    return asked.lost > without.lost or any(holds(path, row.asked, row.without) for path in asked.lost)


MAXIMAL: list[tuple[str, Body]] = [
    ("anthropic", agent_payload(stream=False, tools=20)),
    ("anthropic", {"model": "m", **loss_places.ANTHROPIC}),
    ("gemini", loss_places.GEMINI),
    ("converse", loss_places.CONVERSE),
    ("openai_responses", {"model": "m", **loss_places.RESPONSES}),
    ("openai_chat", {"model": "m", **loss_places.CHAT}),
]


@pytest.mark.parametrize("upstream", BACKENDS)
@pytest.mark.parametrize(("caller", "body"), MAXIMAL, ids=[f"{n}-{c}" for n, (c, _) in enumerate(MAXIMAL)])
def test_a_request_with_everything(site: Site, caller: str, body: Body, upstream: str) -> None:
    """Whatever of it does not arrive stands at a place that the header names."""
    mark = f"maximal-{caller}-{upstream}-{len(json.dumps(body))}"
    sent = site.send(caller, upstream, {**body, "store": False} if "responses" in caller else body, mark)
    assert sent.answer.status == 200, sent.answer.body
    assert sent.arrived is not None
    strict = site.send(caller, upstream, body, f"{mark}-strict", strict=True)
    assert strict.answer.status == (400 if sent.lost else 200)
    for kind, value in missing_from(read(caller, body), read(upstream, sent.arrived)):
        found = places(caller, body, kind, value)
        assert any(within(place, path) for place in found for path in sent.lost), (kind, value, sent.lost)


def places(caller: str, body: Body, kind: str, value: str) -> list[str]:
    """Where a fact stands in the caller's body; media may be a part of a URL."""
    if kind == "sampling":
        return [loss.path for loss in in_callers_terms([Loss(value.partition("=")[0], "")], caller)]
    return [place for place, leaf in leaves(body) if leaf == value or (kind != "text" and value in str(leaf))]


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a body that holds no other, and where it stands."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{place}[{index}]")
    else:
        yield place, value


def within(place: str, path: str) -> bool:
    return place == path or place.startswith((f"{path}.", f"{path}["))


def holds(path: str, asked: Any, without: Any) -> bool:
    """The two requests differ at this place, or within it."""
    found = [_at(body, re.findall(r"[^.\[\]]+", path)) for body in (asked, without)]
    return found[0] is not None and found[0] != found[1]


def _at(body: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(body, list) and step.isdigit() and int(step) < len(body):
            body = body[int(step)]
        elif isinstance(body, dict):
            body = body.get(step)
        else:
            return None
    return body


def facts(request: ChatRequest) -> Facts:
    """What a request says in words and numbers that mean the same in every dialect, each by its value."""
    found: Facts = Counter()
    for field in fields(request.sampling):
        value = getattr(request.sampling, field.name)
        does_anyway = value == 1 and field.name in ("temperature", "top_p")
        if value not in (None, ()) and not does_anyway:
            found["sampling", f"{field.name}={value}"] += 1
    for tool in request.tools:
        if tool.kind == "function":
            found["tool", tool.name] += 1
            found["tool", f"{tool.name}: {tool.description}"] += 1
    for message in request.messages:
        for part in message.parts:
            found.update(_facts_of(part))
    return found


def _facts_of(part: Any) -> Iterator[tuple[str, str]]:
    match part:
        case Text():
            yield "text", part.text
        case Media() if part.mime == "text/plain" and part.data is not None:
            yield "text", base64.b64decode(part.data).decode()
        case Media():
            yield part.kind, part.data or part.url or part.file_id or ""
        case ToolCall() if part.kind == "function":
            yield "call", json.dumps([part.name, json.loads(part.arguments or "{}")])
        case ToolResult():
            for inner in part.parts:
                yield from _facts_of(inner)
        case Reasoning():
            return


RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])


@pytest.mark.parametrize("name", [*BACKENDS, "openai_completions"])
def test_of_the_same_dialect_every_byte_arrives(site: Site, name: str) -> None:
    """But for the name of the model; the fields of the outermost object may move closer together."""
    bodies = [row.asked for row in CALLERS[name].rows if row.name not in STATE]
    if name == "anthropic":
        bodies.append({**agent_payload(stream=False), "unheard_of": {"kept": [1, 2.50]}})
    state = {"store": False} if name == "openai_responses" else {}
    for number, row in enumerate(bodies):
        body = {**row, "unheard_of": {"kept": [1, 2.50]}, **state}
        upstream = "openai_chat" if name == "openai_completions" else name
        sent = site.send(name, upstream, body, f"same-{name}-{number}")
        assert sent.answer.status == 200, (row, sent.answer.body)
        assert "x-headgate-loss" not in sent.answer.headers
        assert sent.arrived is not None
        arrived, original = RAW.decode(sent.arrived), RAW.decode(json.dumps(body, indent=1).encode())
        if codec(name).model_in_body:
            assert json.loads(bytes(arrived.pop("model"))) == MODELS[upstream]
            original.pop("model", None)
        if body.get("stream") and codec(name).usage_field:
            arrived.pop(codec(name).usage_field, None)
            original.pop(codec(name).usage_field, None)
        assert {key: bytes(value) for key, value in arrived.items()} == {
            key: bytes(value) for key, value in original.items()
        }
