"""Artefacts without code: ONNX and skops, what they answer, and what is refused."""

from __future__ import annotations

import builtins
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from headgate.core.errors import ConfigError, InvalidData, MissingExtra, UnsupportedParameter
from headgate.core.operations import Table
from headgate.dialects.tables import decode
from headgate.local.folder import load
from headgate.local.runner import LoadOptions, Runner

WINE = Path(__file__).parents[2] / "examples" / "wine"
X = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
FLOAT, DOUBLE, INT64, STRING = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING


def double(x: Any) -> Any:
    return x * 2


def saved(path: Path, model: Any) -> Path:
    """A folder with `model.skops`."""
    path.mkdir()
    skops.io.dump(model, path / "model.skops")
    return path


def with_metadata(path: Path, target_type: str, **inference: Any) -> Path:
    text = {"name": "m", "type": "inference", "targetType": target_type, "inferenceModel": inference}
    (path / "model-metadata.yaml").write_text(json.dumps(text))
    return path


def fails(source: Path, options: LoadOptions | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(source, name="m", options=options)
    assert "\n" not in caught.value.message
    return caught.value.message


def refuses(runner: Runner, **columns: Sequence[Any]) -> str:
    with pytest.raises(InvalidData) as caught:
        runner.predict(Table(tuple(columns), tuple(columns.values())), {})
    assert "s3cr3t" not in caught.value.message
    return caught.value.message


# The example


def test_the_wine_example_answers_class_probabilities() -> None:
    runner = load(WINE, name="wine")
    answers = [
        runner.predict(decode((WINE / file).read_bytes(), kind, schema=runner.schema.input), {}).predictions
        for file, kind in (("rows.csv", "text/csv"), ("rows.json", "application/json"))
    ]
    assert answers[0] == answers[1]
    assert [max(row, key=row.__getitem__) for row in answers[0]] == ["class_0", "class_1", "class_2"]
    assert all(math.isclose(sum(row.values()), 1) for row in answers[0])
    assert runner.class_labels == ("class_0", "class_1", "class_2")
    assert runner.target_type == "multiclass"
    assert runner.schema.input["properties"]["alcohol"] == {"title": "alcohol", "type": "number"}
    assert runner.describe == "model.skops, the folder's only artefact: Pipeline, multiclass, 13 columns"


def test_training_the_wine_example_again_gives_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(WINE)
    import train  # type: ignore[import-not-found]

    model, accuracy = train.train()
    sys.modules.pop("train")
    frame = pd.read_csv(WINE / "rows.csv")
    committed = load(WINE, name="wine").predict(decode((WINE / "rows.csv").read_bytes(), "text/csv"), {})
    expected = [[row[f"class_{k}"] for k in range(3)] for row in committed.predictions]
    np.testing.assert_allclose(model.predict_proba(frame), expected, rtol=1e-9)
    assert accuracy > 0.9
    assert (WINE / "model.skops").stat().st_size < 200_000


# skops


def test_a_regressor_finds_columns_by_name_and_leaves_others_out(tmp_path: Path) -> None:
    runner = load(saved(tmp_path / "m", LinearRegression().fit(X, 2 * X["a"] + X["b"])), name="m")
    table = Table(("b", "id", "a"), ([1, 0.5], ["x", "y"], [10, 2]))
    np.testing.assert_allclose(runner.predict(table, {}).predictions, [21.0, 4.5])
    assert runner.target_type == "regression"
    assert runner.schema.output == {"type": "number"}
    with pytest.raises(UnsupportedParameter):
        runner.predict(table, {"factor": 1})


def test_a_classifier_of_two_classes_is_binary(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, ["no", "no", "yes", "yes"])
    runner = load(saved(tmp_path / "m", model) / "model.skops", name="m")
    assert (runner.target_type, runner.class_labels) == ("binary", ("no", "yes"))
    expected = model.predict_proba(X)
    got = runner.predict(Table(("a", "b"), (list(X["a"]), list(X["b"]))), {}).predictions
    assert [list(row.values()) for row in got] == expected.tolist()


def test_the_metadata_orders_and_checks_the_labels(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, [0, 0, 1, 1])
    folder = saved(tmp_path / "m", model)
    with_metadata(folder, "binary", positiveClassLabel="0", negativeClassLabel="1.0")
    runner = load(folder, name="m")
    row = runner.predict(Table(("a", "b"), ([0.0], [1.0])), {}).predictions[0]
    assert list(row) == ["1.0", "0"]
    assert row["0"] == model.predict_proba(X[:1])[0, 0]
    with_metadata(folder, "binary", positiveClassLabel="yes", negativeClassLabel="no")
    assert "the class labels in the metadata (no, yes) are not the model's (0, 1)" in fails(folder)
    with_metadata(folder, "regression")
    assert "targetType is regression, but the LogisticRegression is a classifier" in fails(folder)


def test_a_model_fitted_on_a_bare_array_takes_columns_by_position(tmp_path: Path) -> None:
    runner = load(saved(tmp_path / "m", LinearRegression().fit(X.to_numpy(), X["a"])), name="m")
    np.testing.assert_allclose(runner.predict(Table(("p", "q"), ([7], [1])), {}).predictions, [7.0])
    assert refuses(runner, p=[1]) == "the table has 1 columns; the model takes 2"


def test_mixed_columns_go_through_a_pipeline(tmp_path: Path) -> None:
    frame = X.assign(c=["u", "v", "u", "v"])
    steps = make_column_transformer((OneHotEncoder(), ["c"]), remainder="passthrough")
    model = make_pipeline(steps, LinearRegression()).fit(frame, X["a"])
    runner = load(saved(tmp_path / "m", model), name="m")
    np.testing.assert_allclose(
        runner.predict(Table(("c", "b", "a"), (["v"], [1.0], [5])), {}).predictions, [5.0], atol=1e-9
    )
    assert runner.schema.input["properties"] == {name: {"title": name} for name in "abc"}
    assert refuses(runner, a=[1], b=[1], c=["s3cr3t"]) == (
        "a column holds a category that the model was not trained on"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1]}, "column 'b' is missing; the model needs it in every row"),
        ({"a": [1, 2], "b": [0, "s3cr3t"]}, "row 1, column 'b' is a text; the model takes a number"),
        ({"a": [1, None], "b": [0, 1]}, "row 1, column 'a' has no value, and the model takes none missing"),
        ({"a": [1, 10**400], "b": [0, 1]}, "row 1, column 'a' is a number out of range"),
    ],
)
def test_tables_that_do_not_fit_an_estimator(
    tmp_path: Path, columns: Mapping[str, Sequence[Any]], message: str
) -> None:
    runner = load(
        saved(tmp_path / "m", make_pipeline(StandardScaler(), LinearRegression()).fit(X, X["a"])), name="m"
    )
    assert refuses(runner, **columns) == message


def test_types_that_skops_does_not_know_need_trust(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(double), LinearRegression()).fit(X, X["a"])
    folder = saved(tmp_path / "m", model)
    name = f"{double.__module__}.double"
    message = fails(folder)
    assert f"holds types that are not known to be safe: {name}; if you trust the file" in message
    assert f"trust_types: [{name}]" in message
    runner = load(folder, name="m", options=LoadOptions(trust_types=(name,)))
    np.testing.assert_allclose(runner.predict(Table(("a", "b"), ([7], [1])), {}).predictions, [7.0])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LinearRegression(), "it is not fitted, or takes something other than a table"),
        (LinearSVC().fit(X, [0, 0, 1, 1]), "the LinearSVC has no predict_proba"),
    ],
)
def test_estimators_that_can_not_be_served(tmp_path: Path, model: Any, message: str) -> None:
    folder = saved(tmp_path / "m", model)
    assert message in fails(folder)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
@pytest.mark.parametrize(
    ("name", "message"),
    [("model.skops", "is not a skops file"), ("model.onnx", "is not an ONNX model that onnxruntime loads")],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name}: {message}" in fails(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1]}, "column 'b' is missing; the model needs it in every row"),
        ({"a": [1], "b": [1], "id": [7]}, "column 'id' is not one that the model was trained on"),
        ({"a": [1], "b": ["s3cr3t"]}, "row 0, column 'b' is a text; the model takes a number"),
        ({"a": [1], "b": [None]}, "row 0, column 'b' has no value, and the model takes none missing"),
    ],
)
@pytest.mark.parametrize("fitted_on", ["frame", "columns", "array"])
def test_an_estimator_inside_a_hook_tells_the_callers_mistakes_too(
    tmp_path: Path, columns: Mapping[str, Sequence[Any]], message: str, fitted_on: str
) -> None:
    model: Any = LinearRegression()
    if fitted_on == "columns":
        model = make_pipeline(make_column_transformer(("passthrough", ["a", "b"])), model)
    model.fit(X.to_numpy() if fitted_on == "array" else X, X["a"])
    folder = saved(tmp_path / "m", model)
    as_fitted = "data.to_numpy()" if fitted_on == "array" else "data"
    (folder / "custom.py").write_text(f"def score(data, model):\n    return model.predict({as_fitted})\n")
    runner = load(folder, name="m")
    if fitted_on == "array" and len(columns) != 2:
        assert refuses(runner, **columns) == f"the table has {len(columns)} columns; the model takes 2"
    elif fitted_on == "columns" and "id" in columns:
        assert runner.predict(Table(tuple(columns), tuple(columns.values())), {}).predictions == [
            pytest.approx(1.0)
        ]
    else:
        assert refuses(runner, **columns) == message


# ONNX


def write_onnx(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[Any]]],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, np.ndarray[Any, Any]] | None = None,
    feature_names: Any = None,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    if feature_names is not None:
        helper.set_model_props(model, {"feature_names": json.dumps(feature_names)})
    path.mkdir(exist_ok=True)
    onnx.save(model, path / "model.onnx")
    return path


def linear(path: Path, shape: Sequence[Any] = ("n", 2), **kwargs: Any) -> Path:
    """y = 2 a + b, from one input for both columns."""
    weights = {"w": np.array([[2.0], [1.0]], np.float32)}
    output = helper.make_tensor_value_info("y", FLOAT, [shape[0], 1])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return write_onnx(path, [node], {"x": (FLOAT, shape)}, [output], weights, **kwargs)


def classifier(path: Path, *, zipmap: bool) -> Path:
    """Probability of "yes" is the logistic function of a."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=[-1.0, 0.0, 1.0, 0.0],
            intercepts=[0.0, 0.0],
            classlabels_strings=["no", "yes"],
            post_transform="SOFTMAX",
        )
    ]
    outputs = [helper.make_tensor_value_info("label", STRING, ["n"])]
    if zipmap:
        nodes.append(
            helper.make_node(
                "ZipMap",
                ["scores"],
                ["probabilities"],
                domain="ai.onnx.ml",
                classlabels_strings=["no", "yes"],
            )
        )
        kind = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
        outputs.append(helper.make_value_info("probabilities", helper.make_sequence_type_proto(kind)))
    else:
        outputs.append(helper.make_tensor_value_info("scores", FLOAT, ["n", 2]))
    return write_onnx(path, nodes, {"x": (FLOAT, ["n", 2])}, outputs)


def test_one_input_takes_columns_by_position(tmp_path: Path) -> None:
    runner = load(linear(tmp_path / "m") / "model.onnx", name="m")
    assert runner.predict(Table(("p", "q"), ([1, 2.5], [10, 20])), {}).predictions == [12.0, 25.0]
    assert runner.target_type == "regression"
    assert runner.schema.input["maxProperties"] == 2
    assert refuses(runner, p=[1]) == "the table has 1 columns; the model takes 2"


def test_one_input_takes_columns_by_name_where_the_model_has_names(tmp_path: Path) -> None:
    runner = load(linear(tmp_path / "m", feature_names=["a", "b"]), name="m")
    table = Table(("b", "note", "a"), ([10, 20], ["x", "y"], [1, 2]))
    assert runner.predict(table, {}).predictions == [12.0, 24.0]
    assert runner.schema.input["required"] == ["a", "b"]
    assert refuses(runner, a=[1]).startswith("column 'b' is missing")
    assert "must be a JSON list of 2 names" in fails(linear(tmp_path / "n", feature_names=["a"]))


def test_a_model_of_one_row_is_run_row_by_row(tmp_path: Path) -> None:
    runner = load(linear(tmp_path / "m", shape=(1, 2)), name="m")
    assert runner.predict(Table(("a", "b"), ([1, 2, 3], [0, 1, 0])), {}).predictions == [2.0, 5.0, 6.0]


def test_one_input_for_each_column_keeps_types_and_precision(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["n"], ["nf"], to=DOUBLE),
        helper.make_node("Add", ["x", "nf"], ["y"]),
    ]
    output = helper.make_tensor_value_info("y", DOUBLE, ["r", 1])
    inputs: dict[str, tuple[int, Sequence[Any]]] = {"x": (DOUBLE, ["r", 1]), "n": (INT64, ["r", 1])}
    runner = load(write_onnx(tmp_path / "m", nodes, inputs, [output]), name="m")
    table = Table(("n", "x"), ([1, 2.0], [0.1, None]))
    first, second = runner.predict(table, {}).predictions
    assert first == 1.1
    assert math.isnan(second)
    assert runner.schema.input["properties"] == {"x": {"type": "number"}, "n": {"type": "integer"}}
    assert refuses(runner, x=[1, "s3cr3t"], n=[1, 1]) == (
        "row 1, column 'x' is not what the model takes (number)"
    )
    assert refuses(runner, x=[1.0], n=[1.5]) == "row 0, column 'n' is not what the model takes (integer)"
    assert refuses(runner, x=[1.0], n=[None]) == "row 0, column 'n' has no value"
    assert refuses(runner, x=[1.0], n=[2**70]) == "column 'n' holds a number out of range for the model"
    assert refuses(runner, x=[10**400], n=[1]) == "column 'x' holds a number out of range for the model"


def test_numbers_too_big_for_the_models_type_are_refused(tmp_path: Path) -> None:
    runner = load(linear(tmp_path / "m"), name="m")
    assert refuses(runner, a=[1e300], b=[0]) == "column 'a' holds a number out of range for the model"


def test_a_zipmap_names_the_classes(tmp_path: Path) -> None:
    runner = load(classifier(tmp_path / "m", zipmap=True), name="m")
    rows = runner.predict(Table(("a", "b"), ([0, 30], [0, 0])), {}).predictions
    assert list(rows) == [{"no": 0.5, "yes": 0.5}, {"no": pytest.approx(0, abs=1e-9), "yes": 1.0}]
    assert runner.target_type == "multiclass"


def test_probabilities_without_labels_need_the_metadata(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "m", zipmap=False)
    assert "give targetType (and classLabels) in model-metadata.yaml" in fails(folder)
    assert "bears no class labels; give classLabels" in fails(with_metadata(folder, "multiclass"))
    runner = load(with_metadata(folder, "binary", classLabels=["no", "yes"]), name="m")
    rows = runner.predict(Table(("a", "b"), ([0, 30], [0, 0])), {}).predictions
    assert list(rows)[1] == {"no": pytest.approx(0, abs=1e-9), "yes": 1.0}


def test_inputs_that_are_no_table(tmp_path: Path) -> None:
    output = helper.make_tensor_value_info("y", FLOAT, ["n", 3, 8, 8])
    node = helper.make_node("Identity", ["image"], ["y"])
    folder = write_onnx(tmp_path / "m", [node], {"image": (FLOAT, ["n", 3, 8, 8])}, [output])
    assert "input 'image' is tensor(float)" in fails(folder)


def test_hooks_around_an_artefact(tmp_path: Path) -> None:
    folder = linear(tmp_path / "m", feature_names=["a", "b"])
    (folder / "custom.py").write_text(
        "def transform(data, model):\n    return data.assign(b=model.get_inputs()[0].shape[1])\n"
        "def post_process(predictions, model):\n    return predictions * 100\n"
    )
    runner = load(folder, name="m")
    assert runner.predict(Table(("a",), ([1, 2],)), {}).predictions == [400.0, 600.0]
    assert runner.describe == "custom.py: ONNX, regression, 2 inputs with transform and post_process"


def test_load_model_alone_is_served_like_an_artefact(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", LinearRegression().fit(X, X["a"]))
    (folder / "custom.py").write_text(
        "import skops.io\ndef load_model(code_dir):\n    return skops.io.load(code_dir + '/model.skops')\n"
    )
    np.testing.assert_allclose(
        load(folder, name="m").predict(Table(("a", "b"), ([7], [1])), {}).predictions, [7.0]
    )


# Choosing


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no model found; put one artefact (.onnx, .skops) into it, or a custom.py"),
        (["README.md", "data.json"], "no model found"),
        (["a.onnx", "b.skops"], "several artefacts (a.onnx, b.skops); leave one"),
        (["a.onnx", "b.pkl"], "several artefacts (a.onnx, b.pkl)"),
        (["m.pkl"], "m.pkl: a .pkl file runs code when it is loaded"),
        (["m.joblib"], "save the model with skops (skops.io.dump) or as ONNX, or write a custom.py"),
        (["m.pt"], "a .pt file runs code when it is loaded"),
        (["m.cbm"], ".cbm files are not loaded without code yet; write a custom.py with load_model"),
        (["custom.R"], "the code file must be called custom.py"),
    ],
)
def test_folders_without_one_artefact(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    assert message in fails(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pkl", "runs code when it is loaded"),
        ("custom.py", "is a file of code; give its folder"),
        ("notes.txt", "is no artefact that can be served; served are .onnx, .skops"),
    ],
)
def test_single_files_that_are_not_served(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert message in fails(tmp_path / name)


@pytest.mark.parametrize(
    ("blocked", "name", "extra"),
    [("onnxruntime", "m.onnx", "onnx"), ("skops", "m.skops", "sklearn"), ("pandas", "wine", "sklearn")],
)
def test_a_missing_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocked: str, name: str, extra: str
) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == blocked]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("headgate.local.onnx", "headgate.local.estimators"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    real = builtins.__import__

    def fail(module: str, *args: Any, **kwargs: Any) -> Any:
        if module.partition(".")[0] == blocked:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(module, *args, **kwargs)

    (tmp_path / "m.onnx").write_bytes(b"x")
    (tmp_path / "m.skops").write_bytes(b"x")
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MissingExtra) as caught:
        load(WINE if name == "wine" else tmp_path / name, name="m")
    assert f"pip install 'headgate[{extra}]'" in caught.value.message
