"""The header of a GGUF file: enough to size a context and to know what the chat template can do.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from headgate.core.errors import ConfigError

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING_LIMIT = 16 * 1024 * 1024
_KEYS_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of one model file. Lengths are in tokens; `kv_bytes_per_token` assumes a 16-bit cache."""

    architecture: str
    name: str | None
    n_ctx_train: int
    n_vocab: int
    chat_template: str | None
    kv_bytes_per_token: int


def read_header(path: Path) -> Header:
    """Raises ConfigError when `path` is not a whole GGUF header."""
    try:
        with path.open("rb") as file:
            fields = _fields(file)
    except OSError as error:
        raise ConfigError(f"can't read the weights {path}: {error.strerror}") from error
    except (struct.error, ValueError) as error:
        raise ConfigError(
            f"{path} is not a GGUF model file ({error}): check the reference, or pull it again"
        ) from error
    architecture = str(fields.get("general.architecture", ""))
    template = fields.get("tokenizer.chat_template")
    name = fields.get("general.name")
    return Header(
        architecture=architecture,
        name=name if isinstance(name, str) else None,
        n_ctx_train=int(fields.get(f"{architecture}.context_length", 0)),
        n_vocab=int(fields.get("tokenizer.ggml.tokens", 0)),
        chat_template=template if isinstance(template, str) else None,
        kv_bytes_per_token=_kv_bytes(fields, architecture),
    )


def _kv_bytes(fields: dict[str, Any], architecture: str) -> int:
    def number(key: str, default: int) -> int:
        value = fields.get(f"{architecture}.{key}", default)
        return value if isinstance(value, int) else default

    heads = number("attention.head_count", 1) or 1
    width = number("embedding_length", 0) // heads
    kv_heads = number("attention.head_count_kv", heads)
    key, value = number("attention.key_length", width), number("attention.value_length", width)
    return 2 * number("block_count", 0) * kv_heads * (key + value)


def _fields(file: IO[bytes]) -> dict[str, Any]:
    """All metadata; an array is represented by its length."""
    if file.read(4) != _MAGIC:
        raise ValueError("it does not begin with GGUF")
    version, _, count = struct.unpack("<IQQ", _exactly(file, 20))
    if version not in (2, 3) or count > _KEYS_LIMIT:
        raise ValueError(f"unknown GGUF version {version}")
    fields = {}
    for _ in range(count):
        key = _string(file)
        (kind,) = struct.unpack("<I", _exactly(file, 4))
        fields[key] = _value(file, kind)
    return fields


def _value(file: IO[bytes], kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        item, length = struct.unpack("<IQ", _exactly(file, 12))
        if item in _SCALARS:
            file.seek(length * struct.calcsize("<" + _SCALARS[item]), 1)
        else:
            for _ in range(length):
                _value(file, item)
        return length
    if kind not in _SCALARS:
        raise ValueError(f"unknown value type {kind}")
    code = "<" + _SCALARS[kind]
    return struct.unpack(code, _exactly(file, struct.calcsize(code)))[0]


def _string(file: IO[bytes]) -> str:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    if length > _STRING_LIMIT:
        raise ValueError("a text in it is too long")
    return _exactly(file, length).decode("utf-8", "replace")


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it ends too early")
    return data
