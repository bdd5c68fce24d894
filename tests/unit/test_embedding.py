"""The embedding model in-process: pooling as the folder says, order, truncation, clear failures."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from headgate.core.errors import Cancelled, ConfigError, MissingExtra
from headgate.local import catalog
from headgate.local.engines import embedding
from headgate.local.engines.embedding import EmbeddingModel, Recipe

TEXTS = ["A cat.", "A somewhat longer text about a dog.", "Rain"]


@pytest.fixture(scope="module")
def weights() -> Path:
    return catalog.pull("minilm").path


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    """A copy of the model's folder that a test may add files to."""
    for name in ("model_quantized.onnx", "tokenizer.json"):
        (tmp_path / name).symlink_to(weights / name)
    return tmp_path


def vectors(packed: Sequence[bytes]) -> Any:
    return np.array([np.frombuffer(item, dtype="<f4") for item in packed])


def hidden(model: EmbeddingModel, folder: Path, text: str) -> Any:
    """The model's own token vectors, without any of our code but the tokenizer."""
    session = onnxruntime.InferenceSession(str(folder / "model_quantized.onnx"))
    ids = np.array([model._tokenizer.encode(text).ids], dtype=np.int64)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return session.run(None, feed)[0][0]


@pytest.mark.weights
def test_order_is_kept_and_neighbours_don_t_matter(weights: Path) -> None:
    model = EmbeddingModel.load(weights, n_threads=1)
    together, counts = model.embed(TEXTS)
    alone = [model.embed([text])[0][0] for text in TEXTS]
    assert together == alone
    assert counts == [5, 10, 3]
    assert np.allclose(np.linalg.norm(vectors(together), axis=1), 1)


@pytest.mark.weights
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    ("mode", "pool"),
    [
        ("pooling_mode_mean_tokens", lambda h: h.mean(axis=0)),
        ("pooling_mode_cls_token", lambda h: h[0]),
        ("pooling_mode_lasttoken", lambda h: h[-1]),
    ],
)
def test_pooling_is_the_model_s_own(folder: Path, mode: str, pool: Any, normalise: bool) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 384, mode: True})
    )
    last = [{"type": "sentence_transformers.models.Normalize"}] if normalise else []
    modules = [{"type": "sentence_transformers.models.Transformer"}, *last]
    (folder / "modules.json").write_text(json.dumps(modules))
    model = EmbeddingModel.load(folder, n_threads=1)
    found = vectors(model.embed(TEXTS)[0])
    for text, vector in zip(TEXTS, found, strict=True):
        expected = pool(hidden(model, folder, text))
        if normalise:
            expected = expected / np.linalg.norm(expected)
        assert np.allclose(vector, expected, atol=2e-4)


@pytest.mark.weights
def test_padding_changes_nothing_for_a_model_that_batches(weights: Path) -> None:
    model = EmbeddingModel.load(weights, n_threads=1)
    model._batch_tokens = embedding.BATCH_TOKENS
    batched = vectors(model.embed([*TEXTS, "word " * 300])[0])
    model._batch_tokens = 0
    alone = vectors(model.embed([*TEXTS, "word " * 300])[0])
    assert (batched * alone).sum(axis=1).min() > 0.98  # int8: each batch has a scale of its own


@pytest.mark.weights
def test_limits_come_from_the_model_and_can_be_cut_to(folder: Path) -> None:
    assert EmbeddingModel.load(folder).recipe == Recipe("mean", True, 512)
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert EmbeddingModel.load(folder).recipe.max_length == 8
    model = EmbeddingModel.load(folder, truncate=True)
    long, short = "one two three four five six seven eight", "one two three four five six"
    cut, counts = model.embed([long, "x" * 100_000, short])
    assert counts == [8, 3, 8]
    assert cut[0] == cut[2]
    assert EmbeddingModel.load(folder, max_length=16).recipe.max_length == 16


@pytest.mark.weights
def test_nobody_waiting_ends_the_work(weights: Path) -> None:
    left = threading.Event()
    left.set()
    with pytest.raises(Cancelled):
        EmbeddingModel.load(weights).embed(TEXTS, left=left)


def test_batches_hold_like_lengths_within_the_budget() -> None:
    lengths = [5, 100, 6, 90, 1]
    assert list(embedding._batches(lengths, 180)) == [[4, 0, 2], [3], [1]]
    assert list(embedding._batches(lengths, 200)) == [[4, 0, 2], [3, 1]]
    assert list(embedding._batches(lengths, 0)) == [[4], [0], [2], [3], [1]]
    assert list(embedding._batches([], 10)) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no ONNX model: one of model.onnx, "),
        ({"model.onnx": "x"}, r"there is no tokenizer\.json beside"),
        ({"model.onnx": "x", "tokenizer.json": "{"}, "can't be read as a tokenizer"),
        ({"onnx/model.onnx": "x", "tokenizer.json": "{"}, "can't be read as a tokenizer"),
    ],
)
def test_a_broken_folder_is_told(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        EmbeddingModel.load(tmp_path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no embedding model at"):
        EmbeddingModel.load(tmp_path / "model.onnx")


@pytest.mark.weights
def test_broken_files_beside_the_model_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "1_Pooling").mkdir()
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ConfigError, match="asks for pooling_mode_max_tokens: it must be one of"):
        EmbeddingModel.load(folder)
    pooling.write_text("{")
    with pytest.raises(ConfigError, match="can't be read as JSON"):
        EmbeddingModel.load(folder)
    pooling.unlink()
    (folder / "model_quantized.onnx").unlink()
    (folder / "model_quantized.onnx").write_text("not a model")
    with pytest.raises(ConfigError, match=r"onnxruntime can't load .*model_quantized\.onnx"):
        EmbeddingModel.load(folder)


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'headgate\[embeddings\]'"):
        EmbeddingModel.load(Path("x"))
