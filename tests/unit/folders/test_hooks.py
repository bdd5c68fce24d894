"""Hooks over data frames: what they get, what they may return, and whose fault a failure is."""

from __future__ import annotations

import pandas as pd
import pytest

from headgate.core.errors import Internal, InvalidData, UnsupportedParameter
from headgate.core.operations import Table
from tests.unit.folders.folder import NUMBERS, Folder, metadata


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
