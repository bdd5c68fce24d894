"""Bad input in every dialect: refused in its own shape with the field's name, or passed on within it.

Never a 5xx, and the server serves on.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.sdk.clients import KEY
from tests.e2e.sdk.conftest import Far
from tests.e2e.sdk.forms import FORMS, Form
from tests.e2e.sdk.said import IMAGE
from tests.support.client import Answer, Connection, request
from tests.support.server import Running

HEADERS = {"x-api-key": KEY}


@pytest.fixture(params=list(FORMS))
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


@pytest.fixture(autouse=True)
def serves_on(gateway: Running) -> Iterator[None]:
    yield
    ask = {"model": "double", "messages": [{"role": "user", "content": "hi"}]}
    assert request(gateway.port, "POST", "/v1/chat/completions", ask, HEADERS).status == 200


def abroad(form: Form) -> list[str]:
    return [f"{name}-text" for name in FORMS if name != form.name]


def home(form: Form) -> str:
    return f"{form.name}-text"


def post(connection: Connection, form: Form, model: str, body: dict[str, Any]) -> Answer:
    return connection.request("POST", form.path(model), body, HEADERS)


def refused(form: Form, answer: Answer, *names: str) -> None:
    """In the dialect's own shape, with one of the names."""
    assert answer.status == 400, (answer.status, answer.body[:300])
    message, place = form.shape(answer)
    assert any(name in message + place for name in names), (names, message, place)


def untouched(form: Form, answer: Answer) -> None:
    """Passed on for the upstream to judge. A response that may have to be kept is read first."""
    if answer.status != 200 and form.name == "openai_responses":
        refused(form, answer, "input")
    else:
        assert answer.status == 200, answer.body


def nodes(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every value within, but for JSON schemas and other free-form objects."""
    if path:
        yield path
    if path and path[-1] in FREE:
        return
    if isinstance(value, dict):
        for key in value:
            yield from nodes(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from nodes(value[index], (*path, index))


FREE = {
    *("parameters", "schema", "input_schema", "parametersJsonSchema", "responseJsonSchema", "json"),
    *("logit_bias", "metadata", "requestMetadata", "additionalModelRequestFields", "response", "args"),
}


def wrong_for(value: Any) -> list[Any]:
    """Values of other types."""
    if isinstance(value, bool):
        return ["yes", 3, [], {}]
    if isinstance(value, int | float):
        return ["3", True, [], {}]
    if isinstance(value, str):
        return [3, True, [3], {"x": 3}]
    return ["x", 3, True, {} if isinstance(value, list) else []]


def replaced(body: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


def test_rich_requests_are_good_as_they_are(gateway: Running, form: Form) -> None:
    with Connection(gateway.port) as connection:
        for model in (home(form), *abroad(form)):
            answer = post(connection, form, model, form.rich(model))
            assert answer.status == 200, (model, answer.body)


def test_every_field_with_the_wrong_type(gateway: Running, form: Form) -> None:
    """Translated: refused with the field's name, or taken because the other type means something, too."""
    model = abroad(form)[0]
    body = form.rich(model)
    taken: list[str] = []
    with Connection(gateway.port) as connection:
        for path in nodes(body):
            if path == ("model",):
                continue
            value: Any = body
            for step in path:
                value = value[step]
            for wrong in wrong_for(value):
                answer = post(connection, form, model, replaced(body, path, wrong))
                where = f"{path} = {wrong!r}"
                assert answer.status in (200, 400), (where, answer.status, answer.body)
                if answer.status == 200:
                    taken.append(where)
                    continue
                message, place = form.shape(answer)
                names = [step for step in path if isinstance(step, str)]
                assert any(name in message + place for name in names), (where, message, place)
    assert taken == TAKEN.get(form.name, [])


def _others(path: str, *values: str) -> list[str]:
    return [f"{path} = {value}" for value in values]


TAKEN: dict[str, list[str]] = {
    # A text is a list of one part.
    "openai_chat": ["('messages', 1, 'content') = 'x'", "('stop',) = 'x'"],
    "openai_responses": [
        "('input',) = 'x'",
        "('input', 0, 'content') = 'x'",
        # An item's name is of use to nobody but who gave it.
        *_others("('input', 1, 'id')", "3", "True", "[3]", "{'x': 3}"),
    ],
    "anthropic": [
        *("('system',) = 'x'", "('messages', 0, 'content') = 'x'"),
        *("('messages', 2, 'content') = 'x'", "('messages', 2, 'content', 0, 'content') = 'x'"),
    ],
    # One object is a list of one; safety settings are the vendor's own, and reported as lost.
    "gemini": [
        "('tools',) = {}",
        "('safetySettings',) = {}",
        *_others("('safetySettings', 0)", "'x'", "3", "True", "[]"),
        *_others("('safetySettings', 0, 'category')", "3", "True", "[3]", "{'x': 3}"),
        *_others("('safetySettings', 0, 'threshold')", "3", "True", "[3]", "{'x': 3}"),
    ],
    # The input of a tool is any JSON.
    "converse": _others("('messages', 1, 'content', 2, 'toolUse', 'input')", "'x'", "3", "True", "[]"),
}
"""Values of other types that mean something, or that no other dialect has any use for."""


def test_tool_results_without_a_call(gateway: Running, form: Form) -> None:
    with Connection(gateway.port) as connection:
        untouched(form, post(connection, form, home(form), form.orphan(home(form))))
        for model in abroad(form):
            answer = post(connection, form, model, form.orphan(model))
            refused(form, answer, "tool", "call_id", "functionResponse")


@pytest.mark.parametrize(
    "messages", [[], None, "x", 3, [[]], [None], [{}], [{"role": "user"}], [{"role": 3}]]
)
def test_messages_that_are_none(gateway: Running, form: Form, messages: Any) -> None:
    with Connection(gateway.port) as connection:
        for model in abroad(form):
            if messages == "x" and form.name == "openai_responses":
                continue  # a text is a message there
            answer = post(connection, form, model, form.with_messages(model, messages))
            refused(form, answer, "messages", "contents", "input")


def test_two_system_prompts_arrive(gateway: Running, form: Form, vendors: dict[str, Far]) -> None:
    with Connection(gateway.port) as connection:
        for name, far in vendors.items():
            body, words = form.two_systems(f"{name}-text")
            answer = post(connection, form, f"{name}-text", body)
            assert answer.status == 200, answer.body
            system = far.vendor.system(far.last().json)
            assert all(word in system for word in words)


BAD_IMAGES = {
    "not base64": "%%%not base64%%%",
    "wrong padding": IMAGE[:-3],
    "empty": "",
    "no image": base64.b64encode(b"<html>this is no picture</html>").decode(),
}


@pytest.mark.parametrize("data", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_images_that_are_none(gateway: Running, form: Form, data: str) -> None:
    with Connection(gateway.port) as connection:
        for model in abroad(form):
            answer = post(connection, form, model, form.with_parts(model, form.image(data)))
            refused(form, answer, "image", "inlineData", "data", "bytes")
        untouched(form, post(connection, form, home(form), form.with_parts(home(form), form.image(data))))


@pytest.mark.parametrize("schema", ["x", 3, [], True, [{}]])
def test_schemas_that_are_none(gateway: Running, form: Form, schema: Any) -> None:
    with Connection(gateway.port) as connection:
        for model in abroad(form):
            answer = post(connection, form, model, form.with_tools(model, [schema]))
            refused(form, answer, "parameters", "input_schema", "parametersJsonSchema", "inputSchema", "json")
            answer = post(connection, form, model, form.with_schema(model, schema))
            refused(form, answer, "schema", "Schema")


def test_a_thousand_tools(gateway: Running, form: Form, vendors: dict[str, Far]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    with Connection(gateway.port) as connection:
        for name in FORMS:
            model = f"{name}-text"
            answer = post(connection, form, model, form.with_tools(model, [schema] * 1000))
            assert answer.status == 200, answer.body[:300]
            assert len(vendors[name].vendor.tools(vendors[name].upstream.seen[-1].json)) == 1000


def test_an_image_of_20_megabytes(gateway: Running, form: Form, vendors: dict[str, Far]) -> None:
    data = base64.b64encode(base64.b64decode(IMAGE) + bytes(20_000_000)).decode()
    with Connection(gateway.port, timeout=30) as connection:
        for model in (home(form), abroad(form)[0], abroad(form)[-1]):
            answer = post(connection, form, model, form.with_parts(model, form.image(data)))
            assert answer.status == 200, answer.body[:300]
            name = model.removesuffix("-text")
            assert vendors[name].vendor.images(vendors[name].upstream.seen[-1].json) == [data]
            vendors[name].upstream.seen.clear()


@pytest.mark.parametrize("part", [{"type": "hologram", "depth": 3}, {"hologram": {}}, {}, "x", 3, None, []])
def test_unknown_parts(gateway: Running, form: Form, part: Any) -> None:
    with Connection(gateway.port) as connection:
        untouched(form, post(connection, form, home(form), form.with_parts(home(form), part)))
        for model in abroad(form):
            answer = post(connection, form, model, form.with_parts(model, part))
            assert answer.status in (200, 400), answer.body
            if answer.status == 200:
                assert answer.headers["x-headgate-loss"]
            else:
                refused(form, answer, "content", "parts", "messages")


def test_json_that_is_none(gateway: Running, form: Form) -> None:
    for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"a":' * 5000 + b"1" + b"}" * 5000, b"{}"):
        headers = {**HEADERS, "content-type": "application/json"}
        answer = request(gateway.port, "POST", form.path(abroad(form)[0]), body, headers)
        assert answer.status == 400, (body[:20], answer.body)
        assert form.shape(answer)[0]
        assert json.loads(answer.body)
