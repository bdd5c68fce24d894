"""Folders with a custom.py, and `module:attr`: what they may hold, and how their mistakes are told."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from headgate.core.errors import ConfigError, Internal, InvalidData, UnsupportedParameter
from headgate.core.operations import PredictResult, Table
from headgate.dialects.tables import decode, encode
from headgate.local.folder import load
from headgate.local.runner import Runner

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBERS = Table(("a", "b"), ([1, 2, 3], [0.5, None, 2.5]))


class Folder:
    """Writes a folder and loads it; closes what it loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: list[Runner] = []

    def write(self, code: str, files: Mapping[str, str] | None = None) -> Folder:
        """A folder with `code` as its custom.py, and other files by their path in it."""
        for name, text in {"custom.py": code, **(files or {})}.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), "utf-8")
        return self

    def load(self, name: str = "m") -> Runner:
        runner = load(self.path, name=name)
        self.loaded.append(runner)
        return runner

    def fails(self) -> str:
        with pytest.raises(ConfigError) as caught:
            self.load()
        return caught.value.message


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "model")
    before = set(sys.modules), list(sys.meta_path), list(sys.path)
    yield folder
    for runner in folder.loaded:
        runner.close()
    assert [name for name in set(sys.modules) - before[0] if "headgate_folder" in name] == []
    assert (list(sys.meta_path), list(sys.path)) == before[1:]


def metadata(target_type: str, **inference: Any) -> str:
    return json.dumps(
        {"name": "m", "type": "inference", "targetType": target_type, "inferenceModel": inference}
    )


def one(runner: Runner, **record: Any) -> Any:
    table = Table(tuple(record), tuple([value] for value in record.values()))
    return runner.predict(table, {}).predictions[0]


# Hooks over data frames.


def test_hooks_run_in_their_order(folder: Folder) -> None:
    folder.write(
        """
        import pandas as pd
        seen = []
        def init(code_dir):
            seen.append(("init", code_dir))
        def load_model(code_dir):
            seen.append(("load_model", code_dir))
            return {"factor": 10}
        def transform(data, model):
            data["b"] = data["b"].fillna(0)
            return data
        def score(data, model, **kwargs):
            assert kwargs == {"headers": {}, "target_type": "regression"}
            return pd.DataFrame({"Predictions": (data["a"] + data["b"]) * model["factor"], "seen": str(seen)})
        def post_process(predictions, model):
            predictions["Predictions"] += 1
            return predictions
        """,
        {"model-metadata.yaml": metadata("regression")},
    )
    runner = folder.load()
    result = runner.predict(NUMBERS, {})
    assert result.predictions == [16.0, 21.0, 56.0]
    assert result.extra is not None
    assert result.extra.columns == ("seen",)
    assert result.extra.data[0][0] == str([("init", str(folder.path)), ("load_model", str(folder.path))])
    assert runner.target_type == "regression"
    assert runner.metadata["name"] == "m"
    assert runner.describe == "custom.py: score with transform and post_process"


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (
            "data, model, **kwargs",
            ["class_labels", "headers", "negative_class_label", "positive_class_label"],
        ),
        ("data, model, class_labels", ["class_labels"]),
        ("data, model", []),
    ],
)
def test_score_gets_what_its_signature_takes(folder: Folder, signature: str, expected: list[str]) -> None:
    folder.write(
        f"""
        import pandas as pd
        def load_model(code_dir): return 1
        def score({signature}):
            given = locals().get("kwargs", locals())
            names = ",".join(sorted(set(given) - {{"data", "model", "target_type"}}))
            return pd.DataFrame({{"yes": [0.9] * len(data), "no": [0.1] * len(data), "names": names}})
        """,
        {"model-metadata.yaml": metadata("binary", positiveClassLabel="yes", negativeClassLabel="no")},
    )
    runner = folder.load()
    result = runner.predict(NUMBERS, {})
    assert runner.class_labels == ("no", "yes")
    assert list(result.predictions) == [{"no": 0.1, "yes": 0.9}] * 3
    assert result.extra is not None
    assert result.extra.data[0][0] == ",".join(expected)


def test_parameters_reach_score(folder: Folder) -> None:
    folder.write(
        """
        def load_model(code_dir): return 1
        def score(data, model, factor=1): return data[["a"]] * factor
        """
    )
    runner = folder.load()
    assert runner.predict(NUMBERS, {"factor": 2}).predictions == [2, 4, 6]
    with pytest.raises(UnsupportedParameter, match="'other'"):
        runner.predict(NUMBERS, {"other": 2})


def test_without_a_target_type_the_columns_say_what_a_prediction_is(folder: Folder) -> None:
    folder.write(
        """
        def load_model(code_dir): return 1
        def score(data, model): return data
        """
    )
    assert list(folder.load().predict(Table(("a", "b"), ([1, 2], ["x", "y"])), {}).predictions) == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
    ]


def test_one_column_of_a_binary_model_is_the_positive_class(folder: Folder) -> None:
    folder.write(
        """
        def load_model(code_dir): return 1
        def score(data, model): return [0.25] * len(data)
        """,
        {"model-metadata.yaml": metadata("binary", positiveClassLabel=1, negativeClassLabel=0)},
    )
    assert folder.load().predict(NUMBERS, {}).predictions[0] == {"0": 0.75, "1": 0.25}


def test_class_labels_match_whatever_their_spelling(folder: Folder) -> None:
    folder.write(
        """
        import pandas as pd
        def load_model(code_dir): return 1
        def score(data, model):
            return pd.DataFrame([[0.2, 0.5, 0.3]] * len(data), columns=[2.0, 1, "x"])
        """,
        {
            "labels.txt": "1\n2\nx\n",
            "model-metadata.yaml": metadata("multiclass", classLabelsFile="labels.txt"),
        },
    )
    assert folder.load().predict(NUMBERS, {}).predictions[0] == {"1": 0.5, "2": 0.2, "x": 0.3}


def test_rows_keep_order_and_precision(folder: Folder) -> None:
    folder.write(
        """
        def load_model(code_dir): return 1
        def score(data, model): return data["a"] * 1
        """
    )
    numbers = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**53 + 2]
    assert folder.load().predict(Table(("a",), (numbers,)), {}).predictions == numbers


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("data[['a']].head(2)", "score returned 2 rows for 3 input rows"),
        ("None", "score returned a NoneType, not a DataFrame"),
        ("'text'", "score returned a str, not a DataFrame"),
        ("[[1, 2]] * 3", "score returned 2 unnamed columns; it must name them, called no, yes"),
        ("[[1, 2], [3], [4]]", "score returned a list, not a DataFrame"),
        ("data", "score returned no column for class label 'no'; its columns must be called no, yes"),
        ("pd.DataFrame({'no': [1, 2, 'x'], 'yes': 1})", "other than a number in row 2, column 'no'"),
        ("pd.DataFrame([[1, 2]] * 3, columns=['no', 'no'])", "returned a column name twice"),
        ("pd.DataFrame({'no': [1, 2, object()], 'yes': 1})", "a value of type object"),
        ("1 / 0", "model 'm': score raised ZeroDivisionError; the server's log has the trace"),
        ("sys.exit(3)", "score raised SystemExit"),
        ("{}['secret']", "score raised KeyError"),
    ],
)
def test_a_model_at_fault_is_a_500_without_details(
    folder: Folder, output: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write(
        f"""
        import sys
        import pandas as pd
        def load_model(code_dir): return 1
        def score(data, model): return {output}
        """,
        {"model-metadata.yaml": metadata("binary", positiveClassLabel="yes", negativeClassLabel="no")},
    )
    with pytest.raises(Internal) as caught:
        folder.load().predict(NUMBERS, {})
    assert message in caught.value.message
    assert "secret" not in caught.value.message
    assert caught.value.code == "model_error"
    assert ("Traceback" in caplog.text) == ("raised" in message)


@pytest.mark.parametrize("body", ["return data.head(1)", "return 5"])
def test_transform_keeps_the_rows(folder: Folder, body: str) -> None:
    folder.write(
        f"""
        def load_model(code_dir): return 1
        def transform(data, model): {body}
        def score(data, model): return data
        """
    )
    with pytest.raises(Internal, match="transform returned"):
        folder.load().predict(NUMBERS, {})


@pytest.mark.parametrize(
    ("access", "table", "message"),
    [
        ("data['c']", NUMBERS, "column 'c' is missing"),
        ("data[['a', 'c']]", NUMBERS, "column 'c' is missing"),
        ("data[['c', 'd']]", NUMBERS, "column 'c' is missing"),
        ("data.drop(columns=['c'])", NUMBERS, "column 'c' is missing"),
        (
            "data[['a']].astype(float)",
            Table(("a",), ([1, "s3cr3t"],)),
            "row 1, column 'a' is a text; the model takes a number",
        ),
    ],
)
def test_a_callers_mistake_that_surfaces_in_a_hook_is_a_422(
    folder: Folder, access: str, table: Table, message: str
) -> None:
    folder.write(
        f"""
        def load_model(code_dir): return 1
        def score(data, model): return {access}
        """
    )
    with pytest.raises(InvalidData) as caught:
        folder.load().predict(table, {})
    assert message in caught.value.message
    assert "s3cr3t" not in caught.value.message


def test_a_hook_may_refuse_data_itself(folder: Folder) -> None:
    folder.write(
        """
        from headgate.core.errors import InvalidData
        def load_model(code_dir): return 1
        def score(data, model): raise InvalidData("too few rows")
        """
    )
    with pytest.raises(InvalidData, match="too few rows"):
        folder.load().predict(NUMBERS, {})


def test_coroutine_hooks_share_one_loop(folder: Folder) -> None:
    folder.write(
        """
        import asyncio
        async def load_model(code_dir):
            return asyncio.get_running_loop()
        async def score(data, model):
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is model
            return data[["a"]]
        """
    )
    assert folder.load().predict(NUMBERS, {}).predictions == [1, 2, 3]


# Several folders in one process.


def test_folders_do_not_see_each_others_modules(tmp_path: Path) -> None:
    folders = [Folder(tmp_path / name) for name in ("one", "two")]
    runners = []
    for folder in folders:
        folder.write(
            """
            import json, os.path
            import settings
            import parts.deep
            from parts import deep
            from settings import NAME
            def predict(x: int) -> list:
                import late
                return [NAME, settings.NAME, parts.deep.NAME, deep.NAME, late.NAME, __name__]
            """,
            {
                "settings.py": f"NAME = {folder.path.name!r}",
                "late.py": f"NAME = {folder.path.name!r}",
                "parts/__init__.py": "from . import deep",
                "parts/deep.py": "from settings import NAME",
            },
        )
        runners.append(folder.load())
    try:
        answers = [one(runner, x=1) for runner in runners]
        assert [set(answer[:5]) for answer in answers] == [{"one"}, {"two"}]
        assert answers[0][5] != answers[1][5]
        assert not {"custom", "settings", "parts", "late"} & set(sys.modules)
    finally:
        for runner in runners:
            runner.close()


def test_pickled_objects_find_the_folders_classes_while_loading(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = Folder(tmp_path / name).write(
            """
            import importlib, pickle
            import shapes
            def load_model(code_dir):
                made = pickle.loads(b"cshapes\\nShape\\n(tR.")
                assert type(made) is shapes.Shape is importlib.import_module("shapes").Shape
                return made
            def predict(model, x: int) -> str:
                return model.name
            """,
            {"shapes.py": f"class Shape:\n    name = {name!r}\n"},
        )
        runner = folder.load()
        assert one(runner, x=1) == name
        runner.close()
    assert "shapes" not in sys.modules


# A typed function.


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


# Folders that are wrong.


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def predict(x)\n    pass", "custom.py, line 1: expected ':'; correct the file"),
        (
            "\nimport no_such_package.part",
            "custom.py, line 2: the import imports 'no_such_package', which is not installed",
        ),
        ("x = 1\nraise OSError('gone')", "custom.py, line 2: the import raised OSError: gone; correct it"),
        ("import sys\nsys.exit(0)", "custom.py, line 2: the import raised SystemExit"),
        (
            "x = 1",
            "defines no hook; it needs one of init, load_model, transform, score, post_process, predict",
        ),
        ("predict = 5", "custom.py: predict is a int; a hook is a function"),
        (
            "def load_model(d): pass\ndef score(d, m): return d",
            "custom.py: load_model returned None; it must return the model",
        ),
        (
            "def load_model(d):\n    return open(d + '/nothing')\ndef score(d, m): return d",
            "custom.py, line 2: load_model raised FileNotFoundError",
        ),
        (
            "def load_model(d): return object()",
            "a object, which is not a model that is known here; define score",
        ),
        ("def init(d): 1 / 0\ndef predict(a): return a", "line 1: init raised ZeroDivisionError"),
        ("def predict(a): 1\ndef score(d, m): 1", "defines score and predict, which both answer; leave one"),
        ("def predict(a): 1\ndef transform(d, m): 1", "defines predict and transform"),
        (
            "class A:\n    def setup(self): 1\n    def predict(self, a): 1\nclass B(A): pass",
            "several classes with setup and predict (A, B)",
        ),
        (
            "class A:\n    def setup(self): 1 / 0\n    def predict(self, a): 1",
            "line 2: setup raised ZeroDivisionError",
        ),
        (
            "class A:\n    def __init__(self, x): 1\n    def setup(self): 1\n    def predict(self, a): 1",
            "TypeError",
        ),
        ("def chat(params, model): 1", "defines chat; this version serves init, load_model"),
        ("def score(d, m): return d", "no model found; put one artefact (.onnx, .skops) into it"),
        ("def predict(): 1", "predict takes no parameters; give it one for each column"),
        ("def predict(a): yield 1", "predict yields"),
        ("def predict(a: 'Missing'): 1", "predict: its signature can't be read: name 'Missing'"),
        ("import pandas\ndef predict(a: pandas.DataFrame): 1", "the type of parameter 'a' has no JSON form"),
    ],
)
def test_broken_code_is_told_with_file_line_and_remedy(folder: Folder, code: str, message: str) -> None:
    folder.path.mkdir()
    (folder.path / "custom.py").write_text(code)
    told = folder.fails()
    assert message in told
    assert told.startswith(str(folder.path))
    assert "Traceback" not in told
    assert "\n" not in told


def test_a_broken_sibling_is_named(folder: Folder) -> None:
    folder.write("import part\ndef predict(a): return a", {"part.py": "\n\nx = ("})
    assert "part.py, line 3: '(' was never closed" in folder.fails()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "model-metadata.yaml, line 1: is not YAML"),
        ("[]", "must be a mapping with name, type, targetType"),
        ("{name: m, type: inference}", "targetType is missing or not a text"),
        (metadata("guess"), "targetType 'guess' is none of regression, binary, multiclass"),
        (metadata("textgeneration"), "targetType textgeneration is not served yet; this version serves"),
        (metadata("binary", positiveClassLabel="x"), "give both positiveClassLabel and negativeClassLabel"),
        (metadata("binary", classLabels=["a", "b", "c"]), "binary has two classLabels, not 3"),
        (metadata("multiclass", classLabels=["a"]), "multiclass needs two or more"),
        (metadata("multiclass", classLabels=["1", 1.0]), "a class label occurs twice"),
        (metadata("multiclass", classLabels="a"), "classLabels must be a list"),
        (metadata("multiclass", classLabelsFile="gone.txt"), "classLabelsFile can't be read"),
        (metadata("multiclass", classLabels=["a"], classLabelsFile="x"), "keep one"),
        ("{name: m, type: i, targetType: binary, typeSchema: 5}", "typeSchema must be a mapping"),
    ],
)
def test_broken_metadata_is_told(folder: Folder, text: str, message: str) -> None:
    folder.write("def predict(a): return a", {"model-metadata.yaml": text})
    assert message in folder.fails()


def test_the_type_schema_describes_records(folder: Folder) -> None:
    rules = [
        {"field": "data_types", "condition": "IN", "value": ["NUM"]},
        {"field": "number_of_columns", "condition": "EQUALS", "value": 2},
        {"field": "sparse", "condition": "EQUALS", "value": "FORBIDDEN"},
    ]
    text = json.loads(metadata("regression")) | {"typeSchema": {"input_requirements": rules}}
    folder.write(
        "def load_model(d): return 1\ndef score(d, m): return d",
        {"model-metadata.yaml": json.dumps(text)},
    )
    assert folder.load().schema.input == {
        "type": "object",
        "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "minProperties": 2,
        "maxProperties": 2,
    }


def test_code_that_is_not_run_is_told(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.write("def predict(a): return a", {"custom_flask.py": "raise SystemExit"})
    folder.load()
    assert "custom_flask.py: is not run" in caplog.text


# module:attr


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "served_module.py").write_text(
        textwrap.dedent("""
        def predict(start: float, stop: float) -> dict:
            return {"span": stop - start}
        class Model:
            def __init__(self): self.k = 1
            def setup(self): self.k = 2
            def predict(self, a: int) -> int: return a * self.k
        class Plain:
            pass
        ready = Model()
        number = 5
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "served_module"
    sys.modules.pop("served_module", None)


def test_functions_classes_and_objects_of_a_module(module: str) -> None:
    assert one(load(f"{module}:predict", name="m"), start=1, stop=3) == {"span": 2.0}
    assert one(load(f"{module}:Model", name="m"), a=4) == 8
    assert one(load(f"{module}:ready", name="m"), a=4) == 4
    assert one(load(f"{module}:ready.predict", name="m"), a=4) == 4


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("served_module:", "write MODULE:ATTRIBUTE"),
        ("served_module:gone", "module 'served_module' has no 'gone'"),
        ("served_module:number", "is a int; serve a function or a class with predict"),
        ("served_module:Plain", "class Plain has no method predict"),
        ("served_gone:predict", "imports 'served_gone', which is not installed"),
        ("served_module", "served_module: there is no such folder or file"),
    ],
)
def test_sources_that_are_wrong(module: str, source: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(source, name="m")
    assert message in caught.value.message


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


def test_pandas_is_what_hooks_see(folder: Folder) -> None:
    folder.write(
        """
        def load_model(code_dir): return 1
        def score(data, model): return data.dtypes.astype(str).to_frame("t").reset_index()
        """
    )
    table = Table(("i", "f", "n", "t"), ([1] * 4, [1.5, None, 2, 3], [None] * 4, ["x", None, "y", "z"]))
    kinds = {row["index"]: row["t"] for row in folder.load().predict(table, {}).predictions}
    assert kinds == {"i": "int64", "f": "float64", "n": "float64", "t": str(pd.Series(["x"]).dtype)}
