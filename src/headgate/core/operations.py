"""Requests and results of the operations other than chat: small pairs of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headgate.core.call import Usage
from headgate.core.messages import Extensions


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Texts, or token id lists, to embed. `dimensions` asks for a shorter vector."""

    model: str
    inputs: tuple[str, ...] | tuple[tuple[int, ...], ...]
    dimensions: int | None = None
    user: str | None = None
    extensions: Extensions = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """One vector for each input, in order: `vectors[i]` is little-endian float32, packed."""

    model: str
    vectors: tuple[bytes, ...]
    usage: Usage
    extensions: Extensions = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """Documents to be put in the order of their relevance to a query; `top_n` keeps the best."""

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    return_documents: bool = False
    extensions: Extensions = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranked:
    """`index` counts the request's documents; `score` is higher for the more relevant."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Best first."""

    model: str
    ranked: tuple[Ranked, ...]
    usage: Usage = field(default_factory=Usage)
    id: str | None = None
    extensions: Extensions = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and named columns. `columns[j]` names `data[j]`, the j-th column's values, all of one length.

    Column-wise, because models eat columns. Values are what the wire gave: None, bool, int, float or
    str, at full precision, rows in order.
    """

    columns: tuple[str, ...]
    data: tuple[Sequence[Any], ...]

    def __post_init__(self) -> None:
        if len(self.columns) != len(self.data):
            raise ValueError(f"{len(self.columns)} column names for {len(self.data)} columns")
        if len({len(column) for column in self.data}) > 1:
            raise ValueError("columns of different lengths")

    @property
    def rows(self) -> int:
        return len(self.data[0]) if self.data else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """A table to score. `parameters` go to the model's code beside the data."""

    model: str
    table: Table
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictResult:
    """`predictions[i]` belongs to row i.

    A number (regression, anomaly), a text, a mapping of class label to probability, or whatever JSON
    value the model's own `predict` returned. `extra` holds further columns of the model's output.
    """

    predictions: Sequence[Any]
    extra: Table | None = None
