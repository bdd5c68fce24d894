"""The hooks of a `custom.py`, found in the module and called in their order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from headgate.core.errors import ConfigError, UnsupportedParameter
from headgate.core.operations import PredictResult, Table
from headgate.local.artefacts import Scorer
from headgate.local.frames import frame_of, is_frame, scores_of, table_of
from headgate.local.metadata import Metadata, Target
from headgate.local.plain import NotPlain
from headgate.local.runner import Schema, TargetType, model_error
from headgate.local.targets import Scores, answer, named
from headgate.local.usercode import UserCode

if TYPE_CHECKING:
    import pandas as pd

TABLE_HOOKS = ("transform", "score", "post_process")
HOOKS = ("init", "load_model", *TABLE_HOOKS, "predict")
NOT_SERVED = ("read_input_data", "score_unstructured", "chat", "get_supported_llm_models")
"""Part of the contract, but not in this version: a folder that defines one is refused."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a `custom.py` defines; None for what it does not."""

    place: str
    init: Callable[..., Any] | None = None
    load_model: Callable[..., Any] | None = None
    transform: Callable[..., Any] | None = None
    score: Callable[..., Any] | None = None
    post_process: Callable[..., Any] | None = None
    predict: Callable[..., Any] | None = None
    served_class: type | None = None

    @property
    def of_tables(self) -> bool:
        return any(getattr(self, name) is not None for name in TABLE_HOOKS)


def find_hooks(module: ModuleType, place: str) -> Hooks:
    """Raises ConfigError: none, ones that exclude each other, or ones that are not served."""
    refused = [name for name in NOT_SERVED if callable(getattr(module, name, None))]
    if refused:
        raise ConfigError(f"{place} defines {', '.join(refused)}; this version serves {', '.join(HOOKS)}")
    found: dict[str, Any] = {}
    for name in HOOKS:
        hook = getattr(module, name, None)
        if hook is not None and not callable(hook):
            raise ConfigError(f"{place}: {name} is a {type(hook).__name__}; a hook is a function")
        found[name] = hook
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and callable(getattr(value, "predict", None))
        and callable(getattr(value, "setup", None))
    ]
    if len(classes) > 1:
        names = ", ".join(one.__name__ for one in classes)
        raise ConfigError(f"{place}: several classes with setup and predict ({names}); leave one")
    hooks = Hooks(place, served_class=classes[0] if classes else None, **found)
    _check(hooks)
    return hooks


def _check(hooks: Hooks) -> None:
    ways = [name for name in ("score", "predict") if getattr(hooks, name)]
    if hooks.served_class is not None:
        ways.append(f"class {hooks.served_class.__name__}")
    if len(ways) > 1:
        raise ConfigError(f"{hooks.place} defines {' and '.join(ways)}, which both answer; leave one")
    for_tables = [name for name in TABLE_HOOKS if getattr(hooks, name)]
    if for_tables and (hooks.predict or hooks.served_class):
        raise ConfigError(
            f"{hooks.place} defines {ways[0]} and {for_tables[0]}; {', '.join(TABLE_HOOKS)} work on tables "
            "and go with score or an artefact, not with a typed predict"
        )
    if not ways and not for_tables and not hooks.load_model and not hooks.init:
        raise ConfigError(f"{hooks.place} defines no hook; it needs one of {', '.join(HOOKS)}")


class TableRunner:
    """Scores whole tables: an artefact alone, or hooks around an artefact or a `score` of the user's.

    The order is transform, then score (the hook's or the artefact's), then post_process. Hooks get pandas
    data frames; without hooks no data frame is made.
    """

    def __init__(
        self,
        code: UserCode,
        metadata: Metadata,
        *,
        describe: str,
        model: Any,
        scorer: Scorer | None,
        hooks: Hooks | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.describe = describe
        self._code = code
        self._metadata = metadata
        self._model = model
        self._scorer = scorer
        self._hooks = hooks or Hooks(describe)
        self._close = close
        self._target = scorer.target if scorer is not None else metadata.target
        self._score_kwargs = _score_kwargs(self._target)
        self.schema = self._schema()

    @property
    def target_type(self) -> TargetType | None:
        return self._target.type

    @property
    def class_labels(self) -> tuple[str, ...] | None:
        return self._target.labels or None

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._metadata.raw

    def predict(self, table: Table, parameters: Mapping[str, Any]) -> PredictResult:
        data = self._transformed(table)
        scores = self._scored(table, data, parameters)
        last = "score"
        if self._hooks.post_process is not None:
            last = "post_process"
            frame = frame_of(Table(scores.names or (), scores.columns))
            output = self._code.call(last, table, partial(self._hooks.post_process, frame, self._model))
            scores = self._named_scores(output, table, last)
        return answer(scores, self._target, self._named(last))

    def close(self) -> None:
        self._code.close()
        if self._close is not None:
            self._close()

    def _transformed(self, table: Table) -> Table | pd.DataFrame:
        if self._hooks.transform is None:
            return frame_of(table) if self._hooks.score is not None else table
        frame = self._code.call(
            "transform", table, partial(self._hooks.transform, frame_of(table), self._model)
        )
        if not is_frame(frame):
            raise model_error(
                f"{self._named('transform')} returned a {type(frame).__name__}, not a DataFrame"
            )
        if len(frame) != table.rows:
            raise model_error(
                f"{self._named('transform')} returned {len(frame)} rows for {table.rows} input rows"
            )
        return frame if self._hooks.score is not None else table_of(frame)

    def _scored(self, table: Table, data: Any, parameters: Mapping[str, Any]) -> Scores:
        if self._hooks.score is not None:
            kwargs = self._kwargs(self._hooks.score, parameters)
            output = self._code.call("score", table, partial(self._hooks.score, data, self._model, **kwargs))
            return self._named_scores(output, table, "score")
        if parameters:
            raise UnsupportedParameter("the model takes no parameters beside the data", param=min(parameters))
        assert self._scorer is not None
        scores: Scores = self._code.call("the artefact", table, partial(self._scorer.score, data))
        return named(scores, self._target, table.rows, self._named("the artefact"))

    def _named_scores(self, output: Any, table: Table, hook: str) -> Scores:
        try:
            scores = scores_of(output)
        except NotPlain as error:
            raise model_error(f"{self._named(hook)} returned {error}") from error
        if scores is None:
            raise model_error(f"{self._named(hook)} returned a {type(output).__name__}, not a DataFrame")
        return named(scores, self._target, table.rows, self._named(hook))

    def _kwargs(self, score: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What `score` gets beside data and model, cut down to what its signature takes."""
        taken = inspect.signature(score).parameters
        if any(one.kind is one.VAR_KEYWORD for one in taken.values()):
            return {"headers": {}, **parameters, **self._score_kwargs}
        for name in parameters:
            if name not in taken and name != "headers":
                raise UnsupportedParameter(f"the model takes no parameter {name!r}", param=name)
        everything = {"headers": {}, **parameters, **self._score_kwargs}
        return {name: value for name, value in everything.items() if name in list(taken)[2:]}

    def _named(self, hook: str) -> str:
        return f"model {self._code.model!r}: {hook}"

    def _schema(self) -> Schema:
        schema = self._scorer.input_schema if self._scorer is not None else None
        if schema is None or self._hooks.transform is not None or self._hooks.score is not None:
            schema = self._metadata.input_schema
        return Schema(schema, _output_schema(self._target))


def _score_kwargs(target: Target) -> Mapping[str, Any]:
    """The names that hooks written for this contract look for."""
    kwargs: dict[str, Any] = {"target_type": target.type}
    if target.type == "binary" and target.labels:
        kwargs |= {"negative_class_label": target.labels[0], "positive_class_label": target.labels[1]}
    if target.labels:
        kwargs["class_labels"] = list(target.labels)
    return kwargs


def _output_schema(target: Target) -> Mapping[str, Any]:
    if target.type == "regression":
        return {"type": "number"}
    if target.type not in ("binary", "multiclass"):
        return {}
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    if not target.labels:
        return {"type": "object", "additionalProperties": probability}
    return {
        "type": "object",
        "properties": dict.fromkeys(target.labels, probability),
        "required": list(target.labels),
    }
