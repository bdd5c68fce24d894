"""A typed function as a model: its hints are the schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headgate.core.errors import Internal, InvalidData, UnsupportedParameter
from headgate.core.operations import PredictResult, Table
from headgate.dialects.tables import decode, encode
from headgate.local.folder import load
from tests.unit.folders.folder import Folder, one

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_hints_are_the_schema_and_are_checked(folder: Folder) -> None:
    folder.write(
        """
        from __future__ import annotations
        from typing import Literal, Optional
        from pydantic import BaseModel
        class Spot(BaseModel):
            x: float
            y: float = 0.0
        def predict(a: int, json: str, kind: Literal["p", "q"] = "p", scale: float = 2.0,
                    note: Optional[str] = "none", marks: list[float] = [1.5], spot: Spot = Spot(x=1)) -> Spot:
            '''Where it is.'''
            return Spot(x=a * scale + spot.x, y=sum(marks)) if note else None
        """
    )
    runner = folder.load()
    schema = runner.schema.input
    assert schema["description"] == "Where it is."
    assert schema["required"] == ["a", "json"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["kind"] == {
        "default": "p",
        "enum": ["p", "q"],
        "title": "kind",
        "type": "string",
    }
    assert schema["properties"]["note"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert schema["properties"]["spot"]["properties"]["x"]["type"] == "number"
    assert "$ref" not in json.dumps([schema, runner.schema.output])
    assert runner.schema.output["properties"]["y"]["type"] == "number"
    assert one(runner, a=1, json="x") == {"x": 3.0, "y": 1.5}
    assert one(runner, a=1, json="x", scale=None, spot={"x": 5}) == {"x": 7.0, "y": 1.5}
    assert one(runner, a=1, json="x", note=None) is None
    assert runner.predict(Table(("a",), ([1, 2],)), {"json": "x"}).predictions[1] == {"x": 5.0, "y": 1.5}
    with pytest.raises(UnsupportedParameter, match="'other'"):
        runner.predict(Table(("a",), ([1],)), {"other": 1})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"b": "x"}, "row 0, column 'a' is missing; the model needs it"),
        ({"a": 1, "c": "s3cr3t"}, "row 0, column 'c' is not one of the model's: a, b"),
        ({"a": "s3cr3t"}, "row 0, column 'a': Input should be a valid integer"),
        ({"a": 1.5}, "row 0, column 'a': Input should be a valid integer"),
        ({"a": 1, "b": [1, "s3cr3t"]}, "row 0, column 'b.1': Input should be a valid number"),
        ({"a": -1}, "row 0, column 'a': the value is not valid"),
    ],
)
def test_records_that_do_not_fit_name_column_and_row(
    folder: Folder, record: Mapping[str, Any], message: str
) -> None:
    folder.write(
        """
        from typing import Annotated
        from pydantic import AfterValidator
        calls = []
        def positive(value: int) -> int:
            if value < 0:
                raise ValueError(f"s3cr3t {value}")
            return value
        def predict(a: Annotated[int, AfterValidator(positive)], b: list[float] = []) -> int:
            calls.append(a)
            return len(calls)
        """
    )
    runner = folder.load()
    with pytest.raises(InvalidData) as caught:
        one(runner, **record)
    assert message in caught.value.message
    assert "s3cr3t" not in caught.value.message
    with pytest.raises(InvalidData, match="row 1, column 'a'"):
        runner.predict(Table(("a",), ([1, "x"],)), {})
    assert one(runner, a=5) == 1, "a record was run before all were checked"


@pytest.mark.parametrize(
    ("code", "record", "answer"),
    [
        ("def predict(**kwargs): return kwargs", {"od280/od315": 1, "x": "y"}, {"od280/od315": 1, "x": "y"}),
        ("def predict(a, **rest): return [a, rest]", {"a": None, "b": 2}, [None, {"b": 2}]),
        ("def predict(a, /, b=2): return [a, b]", {"a": 1}, [1, 2]),
        ("async def predict(a: int): return a + 1", {"a": 1}, 2),
        (
            "from dataclasses import dataclass\n@dataclass\nclass R:\n    a: int\n    b: int = 7\n"
            "def predict(row: R) -> int: return row.a + row.b",
            {"a": 1},
            8,
        ),
        (
            "class Model:\n    def setup(self): self.k = 3\n    def predict(self, a: int): return a * self.k",
            {"a": 2},
            6,
        ),
        (
            "import numpy as np\ndef predict(a: float): return {'v': np.array([a], 'f4')}",
            {"a": 2},
            {"v": [2.0]},
        ),
        ("import datetime\ndef predict(day: datetime.date): return day", {"day": "2024-02-29"}, "2024-02-29"),
        (
            "def predict(self: int, table, what, function, place): return self",
            dict.fromkeys(["self", "table", "what", "function", "place"], 4),
            4,
        ),
    ],
)
def test_forms_of_a_function(folder: Folder, code: str, record: Mapping[str, Any], answer: Any) -> None:
    folder.path.mkdir()
    (folder.path / "custom.py").write_text(code)
    table = Table(tuple(record), tuple([value] for value in record.values()))
    assert folder.load().predict(table, {}).predictions == [answer]


def test_columns_declared_as_text_stay_text_on_the_way_in(folder: Folder) -> None:
    folder.write("def predict(zip: str, n: int = 3) -> str: return zip + str(n)")
    runner = folder.load()
    table = decode(b"zip,n\n01234,\n98765,4\n", "text/csv", schema=runner.schema.input)
    assert encode(runner.predict(table, {})) == b'{"predictions":["012343","987654"]}'


def test_an_answer_without_a_json_form_is_the_models_fault(folder: Folder) -> None:
    folder.write("def predict(a): return {'x': object()}")
    with pytest.raises(Internal, match="predict returned a value of type object, which can't be written"):
        one(folder.load(), a=1)


def test_numbers_that_are_not_finite_become_null(folder: Folder) -> None:
    folder.write("def predict(a): return [float('nan'), float('inf'), a]")
    result = folder.load().predict(Table(("a",), ([1],)), {})
    assert encode(result) == b'{"predictions":[[null,null,1]]}'


def test_the_typed_example() -> None:
    runner = load(EXAMPLES / "typed", name="typed")
    try:
        assert runner.schema.input["required"] == ["alcohol"]
        assert runner.schema.input["properties"]["glass"]["enum"] == ["tasting", "small", "large"]
        body = b'{"alcohol": 13.5, "glass": "large"}'
        result = runner.predict(decode(body, None, schema=runner.schema.input), {})
        assert isinstance(result, PredictResult)
        assert json.loads(encode(result)) == {
            "predictions": [{"kilocalories": 188.40125, "from_alcohol": 186.40125, "from_sugar": 2.0}]
        }
    finally:
        runner.close()
