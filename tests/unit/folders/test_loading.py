"""Folders and `module:attr` as they load: kept apart from each other, and clear about mistakes."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.core.errors import ConfigError
from headgate.local.folder import load
from tests.unit.folders.folder import Folder, metadata, one


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
