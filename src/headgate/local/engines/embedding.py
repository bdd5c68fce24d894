"""Embeddings on onnxruntime: sentence-transformers models exported to ONNX, pooled as the model says.

`EmbeddingModel` blocks and is meant for a worker thread of whoever holds it: the server itself, or the
engine process that this module is with `python -m`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import mmap
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headgate.core.errors import Cancelled, ConfigError, ContextLengthExceeded, InvalidRequest, MissingExtra
from headgate.local.engines.embed_request import read_embed_request
from headgate.local.engines.fields import option_count, option_kind, option_names
from headgate.local.engines.host import Handler, Reply, Slots, run

try:
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer
except ImportError:
    onnxruntime = None

Pooling = Literal["mean", "cls", "last"]

BATCH_TOKENS = 4096
"""Padded tokens computed at a time; bounds the memory of one batch."""
DEFAULT_MAX_LENGTH = 512
_MOST_CHARACTERS_PER_TOKEN = 200
"""A text longer than its token limit times this is refused unread: counting it would take too long."""
_ABSURD_LENGTH = 1_000_000  # what tokenizer configurations write for "no limit"
_MODEL_NAMES = ("model.onnx", "model_quantized.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a folder of sentence-transformers says about turning token vectors into one."""

    pooling: Pooling = "mean"
    normalise: bool = True
    max_length: int = DEFAULT_MAX_LENGTH


class EmbeddingModel:
    """A loaded model. Methods block and may be called from one thread at a time."""

    def __init__(
        self, session: Any, tokenizer: Any, recipe: Recipe, *, batch_tokens: int, truncate: bool = False
    ) -> None:
        self.recipe = recipe
        self._batch_tokens = batch_tokens
        self._session = session
        self._tokenizer = tokenizer
        self._truncate = truncate
        self._inputs = [value.name for value in session.get_inputs()]
        self.dimensions = int(session.get_outputs()[0].shape[-1])
        self.n_vocab = int(tokenizer.get_vocab_size(with_added_tokens=True))

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        truncate: bool = False,
        max_length: int | None = None,
        n_threads: int | None = None,
    ) -> EmbeddingModel:
        """Load an ONNX file with `tokenizer.json` beside it (or one folder up), or a folder with both.

        Args:
            truncate: cut inputs that are too long, in place of refusing them.
            max_length: tokens, special ones included; the model's own limit when None.

        Raises:
            ConfigError: something is missing or broken. MissingExtra: onnxruntime, numpy or tokenizers.
        """
        if onnxruntime is None:
            raise MissingExtra("an embedding model", "embeddings")
        model, root = _find(path)
        try:
            tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
        except Exception as error:  # the library raises Exception itself
            raise ConfigError(f"{root / 'tokenizer.json'} can't be read as a tokenizer: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = n_threads or 0
        settings.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no other base
            reason = str(error).partition("\n")[0][:200]
            raise ConfigError(f"onnxruntime can't load {model}: {reason}") from error
        recipe = _recipe(root, max_length)
        batch_tokens = 0 if _scales_by_batch(model) else BATCH_TOKENS
        return cls(session, tokenizer, recipe, batch_tokens=batch_tokens, truncate=truncate)

    def embed(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        dimensions: int | None = None,
        *,
        left: threading.Event | None = None,
    ) -> tuple[list[bytes], list[int]]:
        """Embed texts, or lists of token ids (taken as they are, special tokens included).

        `left` may be set from another thread when nobody waits any more: the work then ends with Cancelled.

        Returns:
            For each input, in order, `dimensions` little-endian float32 packed into bytes, and the number
            of tokens. A shortened vector is normalised again.

        Raises:
            ContextLengthExceeded: an input is longer than the model takes. InvalidRequest: `dimensions`
                above the model's, a token id that the model does not have.
        """
        if dimensions is not None and dimensions > self.dimensions:
            raise InvalidRequest(
                f"dimensions is {dimensions} and this model has {self.dimensions}", param="dimensions"
            )
        tokens = self._tokens(inputs)
        vectors: list[bytes] = [b""] * len(tokens)
        for batch in _batches([len(ids) for ids in tokens], self._batch_tokens):
            if left is not None and left.is_set():
                raise Cancelled("the client left")
            pooled = self._run([tokens[index] for index in batch])[:, :dimensions]
            if self.recipe.normalise or dimensions is not None:
                pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
            for index, vector in zip(batch, pooled.astype("<f4"), strict=True):
                vectors[index] = vector.tobytes()
        return vectors, [len(ids) for ids in tokens]

    def _tokens(self, inputs: Sequence[str] | Sequence[Sequence[int]]) -> list[Sequence[int]]:
        limit = self.recipe.max_length
        tokens: list[Sequence[int]] = []
        items: Sequence[str | Sequence[int]] = inputs
        for index, item in enumerate(items):
            if isinstance(item, str):
                ids: Sequence[int] = self._encoded(item, index)
            else:
                ids = item
                if not all(0 <= token < self.n_vocab for token in ids):
                    raise InvalidRequest(
                        f"input {index} has a token id outside 0 to {self.n_vocab - 1}",
                        param=f"input.{index}",
                    )
            if len(ids) > limit:
                if not self._truncate:
                    raise self._too_long(index, f"{len(ids)} tokens")
                ids = [*ids[: limit - 1], ids[-1]]  # the closing special token stays
            tokens.append(ids)
        return tokens

    def _encoded(self, text: str, index: int) -> list[int]:
        most = self.recipe.max_length * _MOST_CHARACTERS_PER_TOKEN
        if len(text) > most and not self._truncate:
            raise self._too_long(index, f"{len(text)} characters")
        ids: list[int] = self._tokenizer.encode(text[:most]).ids
        return ids

    def _too_long(self, index: int, size: str) -> ContextLengthExceeded:
        return ContextLengthExceeded(
            f"input {index} has {size} and this model takes {self.recipe.max_length} tokens: split it",
            param=f"input.{index}",
        )

    def _run(self, batch: Sequence[Sequence[int]]) -> Any:
        """Pooled vectors, shape (inputs, dimensions), float32."""
        width = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        available = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed = {name: available[name] for name in self._inputs}
        hidden = self._session.run(None, feed)[0]
        if hidden.ndim == 2:  # the export pools by itself
            return hidden
        if self.recipe.pooling == "cls":
            return hidden[:, 0]
        if self.recipe.pooling == "last":
            return hidden[np.arange(len(batch)), mask.sum(axis=1) - 1]
        weights = mask[:, :, None].astype(np.float32)
        return (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)


def _batches(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Indexes in groups of like length, each of at most `most_tokens` padded tokens."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > most_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _scales_by_batch(model: Path) -> bool:
    """Whether the model quantises activations as it runs, with one scale for the whole batch.

    Then a text's vector would depend on its neighbours (cosine down to 0.99): each is run alone.
    """
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph:
        return graph.find(b"DynamicQuantizeLinear") >= 0


def _find(path: Path) -> tuple[Path, Path]:
    """The ONNX file and the folder of its tokenizer."""
    if path.is_dir():
        model = next((path / name for name in _MODEL_NAMES if (path / name).is_file()), None)
        if model is None:
            raise ConfigError(f"{path} holds no ONNX model: one of {', '.join(_MODEL_NAMES)} is needed")
        folders = (path, model.parent)
    else:
        model, folders = path, (path.parent, path.parent.parent)
        if not path.is_file():
            raise ConfigError(f"there is no embedding model at {path}")
    for folder in folders:
        if (folder / "tokenizer.json").is_file():
            return model, folder
    raise ConfigError(f"there is no tokenizer.json beside {model}: put the model's own there")


def _recipe(root: Path, max_length: int | None) -> Recipe:
    """Read sentence-transformers' and transformers' files where they are; MiniLM's ways where not."""
    modules = _json(root / "modules.json")
    kinds = [str(module.get("type", "")) for module in modules] if isinstance(modules, list) else None
    limits = (
        (_json(root / "sentence_bert_config.json"), "max_seq_length"),
        (_json(root / "tokenizer_config.json"), "model_max_length"),
        (_json(root / "config.json"), "max_position_embeddings"),
    )
    stated = [
        content[key]
        for content, key in limits
        if isinstance(content, dict) and isinstance(content.get(key), int) and content[key] < _ABSURD_LENGTH
    ]
    return Recipe(
        pooling=_pooling(_json(root / "1_Pooling" / "config.json")),
        normalise=kinds is None or any(kind.endswith("Normalize") for kind in kinds),
        max_length=max_length or (min(stated) if stated else DEFAULT_MAX_LENGTH),
    )


def _pooling(config: Any) -> Pooling:
    if not isinstance(config, dict):
        return "mean"
    modes: Mapping[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in modes:
        asked = ", ".join(chosen) or "no pooling"
        raise ConfigError(f"1_Pooling/config.json asks for {asked}: it must be one of {', '.join(modes)}")
    return modes[chosen[0]]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read as JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Options:
    """How to load an embedding model. `max_queue`: requests that may wait for the one that is computed."""

    model: str
    n_threads: int | None = None
    max_length: int | None = None
    truncate: bool = False
    max_queue: int = 64

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Options:
        """Raises ConfigError with the option's name."""
        option_names(given, [field.name for field in fields(cls)], "an embedding model")
        for name, least in (("n_threads", 1), ("max_length", 2), ("max_queue", 0)):
            option_count(given, name, least)
        option_kind(given, "truncate", bool, "true or false")
        return cls(**{name: value for name, value in given.items() if value is not None})


class EmbeddingEngine:
    """A loaded model behind `POST /v1/embeddings`."""

    def __init__(self, options: Options) -> None:
        self._model = EmbeddingModel.load(
            Path(options.model),
            truncate=options.truncate,
            max_length=options.max_length,
            n_threads=options.n_threads,
        )
        self._slots = Slots(1, options.max_queue)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embed")

    @property
    def info(self) -> Mapping[str, Any]:
        recipe = self._model.recipe
        return {
            "engine": f"onnxruntime-{onnxruntime.__version__}",
            "dimensions": self._model.dimensions,
            "max_length": recipe.max_length,
            "pooling": recipe.pooling,
            **self._slots.info,
        }

    @property
    def routes(self) -> Mapping[str, Handler]:
        return {"/v1/embeddings": self.embed}

    async def embed(self, body: Mapping[str, Any], reply: Reply) -> None:
        """Answer one OpenAI embeddings request."""
        job = read_embed_request(body)
        async with self._slots.taken():
            left = threading.Event()
            embed = partial(self._model.embed, job.inputs, job.dimensions, left=left)
            try:
                vectors, counts = await asyncio.get_running_loop().run_in_executor(self._pool, embed)
            finally:
                left.set()
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, job.base64)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
        await reply.json(200, {"object": "list", "data": data, "model": job.model, "usage": usage})


def _encoded(vector: bytes, as_base64: bool) -> str | list[float]:
    if as_base64:
        return base64.b64encode(vector).decode()
    floats: list[float] = np.frombuffer(vector, dtype="<f4").tolist()
    return floats


def load(given: Mapping[str, Any], folder: Path) -> EmbeddingEngine:
    return EmbeddingEngine(Options.read(given))


if __name__ == "__main__":
    run(load)
