"""Predictions of custom models over HTTP: every way to send a table, and every way to send it wrongly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Answer, Connection, request
from tests.support.server import Running, settings_from

EXAMPLES = Path(__file__).parents[2] / "examples"
WINE = EXAMPLES / "wine"
JSON = {"content-type": "application/json"}
CSV = {"content-type": "text/csv"}
ROWS = json.loads((WINE / "rows.json").read_text())
MAX_BODY = 3_000_000

OWN = '''
from typing import Literal

def predict(size: float, colour: Literal["red", "blue"] = "red", count: int = 1) -> float:
    """A price."""
    if size < 0:
        raise ValueError("the secret formula has no answer for -1")
    if size == 7777:
        return object()
    return size * count
'''

FREE = """
def load_model(code_dir):
    return "a model"

def score(data, model):
    import pandas
    return pandas.DataFrame({"Predictions": [float(len(data.columns))] * len(data)})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("predict")
    for name, code in (("own", OWN), ("free", FREE)):
        (folder / name).mkdir()
        (folder / name / "custom.py").write_text(code)
    models: dict[str, Any] = {
        "wine": {"folder": str(WINE)},
        "own": {"folder": str(folder / "own"), "description": "Prices."},
        "free": {"folder": str(folder / "free")},
        "double": {"backend": "scripted"},
    }
    content = {"server": {"max_body": MAX_BODY}, "models": models, "aliases": {"vintage": "wine"}}
    with Running(settings_from(folder, content)) as running:
        yield running


@pytest.fixture(autouse=True)
def serves_on(server: Running) -> Iterator[None]:
    yield
    assert request(server.port, "POST", "/models/own/predict", {"size": 2}).json == {"predictions": [2.0]}
    text = request(server.port, "GET", "/metrics").body.decode()
    assert 'headgate_requests_in_flight{model="own"} 0.0' in text


def refused(answer: Answer, status: int, *words: str) -> str:
    assert answer.status == status, answer.body[:300]
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"]
    assert answer.json.keys() == {"message"}
    message: str = answer.json["message"]
    assert message.startswith("ERROR: ")
    assert "Traceback" not in message
    for word in words:
        assert word in message
    return message


def form(
    data: bytes, name: str = "X", kind: str = "text/csv", boundary: str = "xyz"
) -> tuple[bytes, dict[str, str]]:
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        ).encode()
        + data
        + f"\r\n--{boundary}--\r\n".encode()
    )
    return body, {"content-type": f"multipart/form-data; boundary={boundary}"}


# Ways to ask.


def wine_ways() -> dict[str, tuple[bytes, dict[str, str]]]:
    csv = (WINE / "rows.csv").read_bytes()
    records = (WINE / "rows.json").read_bytes()
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    split = {"columns": list(ROWS[0]), "data": [list(row.values()) for row in ROWS]}
    return {
        "records": (records, JSON),
        "columns": (json.dumps(columns).encode(), JSON),
        "split": (json.dumps(split).encode(), JSON),
        "wrapped": (json.dumps({"data": ROWS}).encode(), JSON),
        "CSV": (csv, CSV),
        "CSV with charset": (csv, {"content-type": "text/csv; charset=utf-8"}),
        "form": form(csv),
        "form of JSON": form(records, kind="application/json"),
        "form of unknown kind": form(csv, kind="application/octet-stream"),
        "nothing said": (csv, {}),
    }


@pytest.mark.parametrize("way", wine_ways())
@pytest.mark.parametrize("path", ["/models/wine/predict", "/models/wine/predict/", "/models/vintage/predict"])
def test_every_way_gives_the_same_probabilities(server: Running, way: str, path: str) -> None:
    body, fields = wine_ways()[way]
    answer = request(server.port, "POST", path, body, fields)
    assert answer.status == 200, answer.body[:300]  # and no redirect
    predictions = answer.json["predictions"]
    assert [max(row, key=row.get) for row in predictions] == ["class_0", "class_1", "class_2"]
    for row in predictions:
        assert row.keys() == {"class_0", "class_1", "class_2"}
        assert sum(row.values()) == pytest.approx(1)
    assert predictions[0]["class_0"] == pytest.approx(0.9994521936831468)
    assert answer.headers["x-request-id"]


def test_typed_function(server: Running) -> None:
    answer = request(
        server.port, "POST", "/models/own/predict", [{"size": 1.5, "count": 2}, {"size": 3, "count": 1}]
    )
    assert answer.json == {"predictions": [3.0, 3.0]}
    answer = request(server.port, "POST", "/models/own/predict", b"size,colour\n1,red\n2,blue\n", CSV)
    assert answer.json == {"predictions": [1.0, 2.0]}


def test_any_columns_for_a_model_without_a_schema(server: Running) -> None:
    answer = request(server.port, "POST", "/models/free/predict", [{"a": 1, "b": None, "c": "x"}])
    assert answer.json == {"predictions": [3.0]}


# Ways to ask wrongly.


@pytest.mark.parametrize(
    ("body", "fields", "status", "words"),
    [
        (b"", JSON, 422, "empty"),
        (b"", CSV, 422, "empty"),
        (b"  \n", {}, 422, "empty"),
        (b"{", JSON, 400, "JSON"),
        (b"\xff\xfe", JSON, 400, "JSON"),
        (b'{"size": NaN}', JSON, 400, "NaN"),
        (b"[" * 100_000 + b"]" * 100_000, JSON, 400, "nested"),
        (b"[]", JSON, 422, "no data"),
        (b"{}", JSON, 422, "no data"),
        (b"5", JSON, 422, "a number"),
        (b"null", JSON, 422, "null"),
        (b'"x"', JSON, 422, "a text"),
        (b"[1, 2]", JSON, 422, "row 0"),
        (b'[{"size": 1}, {"sise": 2}]', JSON, 422, "row 1"),
        (b'{"size": [1, 2], "count": [1]}', JSON, 422, "count"),
        (b'{"columns": ["size"], "data": [[1], [1, 2]]}', JSON, 422, "row 1"),
        (b'{"colour": "red"}', JSON, 422, "size"),
        (b'{"size": "big"}', JSON, 422, "size"),
        (b'{"size": 1, "colour": "green"}', JSON, 422, "colour"),
        (b'{"size": 1, "weight": 3}', JSON, 422, "weight"),
        (b'{"size": null}', JSON, 422, "size"),
        (b'{"size": {"a": 1}}', JSON, 422, "size"),
        (b'{"size": 1, "count": 1.5}', JSON, 422, "count"),
        (b"colour\nred\n", CSV, 422, "size"),
        (b"size,colour\n1\n", CSV, 422, "row"),
        (b"size,size\n1,2\n", CSV, 422, "same name"),
        (b"size\n", CSV, 422, "no data"),
        (b'size,colour\n1,"red\n', CSV, 422, "line 2"),
        (b"size\n\xff\n", CSV, 400, "UTF-8"),
        (b"size\n1\n", {"content-type": "text/csv; charset=klingon"}, 415, "charset"),
        (b"x", {"content-type": "image/png"}, 415, "image/png"),
        (b"size=1", {"content-type": "application/x-www-form-urlencoded"}, 415, "application/x-www-form"),
        (b"x", {"content-type": "multipart/form-data"}, 400, "boundary"),
        (b"no form at all", {"content-type": "multipart/form-data; boundary=xyz"}, 400, "form"),
        (*form(b"size\n1\n", name="Y"), 422, "'X'"),
        (*form(b"", name="X"), 422, "empty"),
        (*form(b"x", kind="image/png"), 415, "image/png"),
    ],
)  # fmt: skip
def test_wrong_data(server: Running, body: bytes, fields: dict[str, str], status: int, words: str) -> None:
    for path in ("/models/own/predict", "/models/own/predict/"):
        answer = request(server.port, "POST", path, body, fields)
        refused(answer, status, words)


def test_missing_column_of_an_artefact_is_named(server: Running) -> None:
    rows = [{name: value for name, value in row.items() if name != "alcohol"} for row in ROWS]
    refused(request(server.port, "POST", "/models/wine/predict", rows), 422, "alcohol")
    refused(request(server.port, "POST", "/models/wine/predict", b"a,b\n1,2\n", CSV), 422, "alcohol")


def test_unknown_model_and_model_of_another_kind(server: Running) -> None:
    refused(request(server.port, "POST", "/models/wien/predict", ROWS), 404, "'wien'", "'wine'")
    refused(request(server.port, "POST", "/models/double/predict", ROWS), 400, "does not predict", "chat")
    refused(request(server.port, "POST", "/models/%2e%2e%2fetc/predict", ROWS), 404)


@pytest.mark.parametrize("path", ["/predict", "/predict/"])
def test_short_path_needs_a_single_model(server: Running, path: str) -> None:
    refused(request(server.port, "POST", path, ROWS), 404, "/models/{name}/predict")


def test_chat_with_a_model_that_predicts(server: Running) -> None:
    ask = {"model": "wine", "messages": [{"role": "user", "content": "hi"}]}
    answer = request(server.port, "POST", "/v1/chat/completions", ask)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (
        400,
        "unsupported_operation",
        "model",
    )


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_wrong_method(server: Running, method: str) -> None:
    answer = request(server.port, method, "/models/own/predict")
    refused(answer, 405, method)
    assert answer.headers["allow"] == "POST"


def test_unknown_route_below_models(server: Running) -> None:
    refused(request(server.port, "POST", "/models/own/nope", b""), 404)
    refused(request(server.port, "POST", "/models/own/predict/more", b""), 404)


def test_errors_of_the_models_own_code_stay_in_the_log(server: Running) -> None:
    message = refused(request(server.port, "POST", "/models/own/predict", {"size": -1}), 500)
    assert "secret formula" not in message
    message = refused(request(server.port, "POST", "/models/own/predict", {"size": 7777}), 500)
    assert "object at" not in message


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_is_refused_while_it_arrives(server: Running, chunked: bool) -> None:
    length = "transfer-encoding: chunked" if chunked else "content-length: 30000000"
    with Connection(server.port) as connection:
        lines = ["POST /models/own/predict HTTP/1.1", "host: x", "content-type: text/csv", length, "", ""]
        connection.socket.sendall("\r\n".join(lines).encode())
        block = b"1,2,3,4\n" * 125_000
        for _ in range(5):
            connection.socket.sendall(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        answer = connection.answer()  # the rest was not sent
        refused(answer, 413, str(MAX_BODY))
        assert answer.headers["connection"] == "close"


def test_caller_who_leaves_while_sending(server: Running) -> None:
    with Connection(server.port) as connection:
        connection.socket.sendall(
            b"POST /models/own/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n[{"
        )


# The API page.


def test_schema_of_each_model_is_in_the_api_page(server: Running) -> None:
    paths = request(server.port, "GET", "/openapi.json").json["paths"]
    assert "/predict" not in paths
    assert "/models/double/predict" not in paths
    operation = paths["/models/own/predict"]["post"]
    assert operation["description"] == "Prices."
    record = operation["requestBody"]["content"]["application/json"]["schema"]["items"]
    assert record["required"] == ["size"]
    assert record["properties"]["size"]["type"] == "number"
    assert record["properties"]["colour"]["enum"] == ["red", "blue"]
    assert record["properties"]["count"]["default"] == 1
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["properties"]["predictions"]["items"]["type"] == "number"
    assert {"text/csv", "multipart/form-data"} <= operation["requestBody"]["content"].keys()
    wine = paths["/models/wine/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "alcohol" in wine["items"]["properties"]


def test_a_server_of_one_model(tmp_path: Path) -> None:
    with ExitStack() as stack:
        settings = settings_from(tmp_path, {"models": {"typed": {"folder": str(EXAMPLES / "typed")}}})
        server = stack.enter_context(Running(settings))
        for path in ("/predict", "/predict/", "/models/typed/predict", "/models/typed/predict/"):
            answer = request(server.port, "POST", path, {"alcohol": 13.5, "glass": "large"})
            assert answer.status == 200
            [energy] = answer.json["predictions"]
            assert energy["kilocalories"] == pytest.approx(188.4, abs=0.1)
            assert energy["from_sugar"] == pytest.approx(2.0)
        refused(request(server.port, "POST", "/predict", {"glass": "large"}), 422, "alcohol")
        paths = request(server.port, "GET", "/openapi.json").json["paths"]
        assert paths["/predict"] == paths["/models/typed/predict"]
