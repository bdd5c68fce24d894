"""Models that are one function: its type hints are the schema, and each record is one call."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails
from typing_extensions import is_typeddict

from headgate.core.errors import ConfigError, InvalidData, UnsupportedParameter
from headgate.core.operations import PredictResult, Table
from headgate.local.metadata import Metadata
from headgate.local.plain import NotPlain, plain
from headgate.local.runner import Schema, TargetType, model_error
from headgate.local.usercode import UserCode

MODEL_PARAMETER = "model"
"""A parameter of this name gets what was loaded, not a column."""

_OWN_WORDS = ("value_error", "assertion_error")
"""Errors whose text is written by the user's validators and may repeat the value."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    positional_only: bool
    default: Any
    accepts_none: bool

    @property
    def optional(self) -> bool:
        return self.default is not inspect.Parameter.empty


class Signature:
    """How a record becomes the arguments of `function`.

    Args:
        place: what to blame in a ConfigError: file or `module:attr`, and the function's name.
        bound: parameters that are not columns, with their values.
    """

    def __init__(self, function: Callable[..., Any], place: str, bound: Mapping[str, Any]) -> None:
        self._place = place
        self._bound = bound
        self._summary = (inspect.getdoc(function) or "").partition("\n")[0] or None
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, TypeError, ValueError) as error:
            raise ConfigError(f"{place}: its signature can't be read: {error}") from error
        columns = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.name not in bound and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
        ]
        self.open = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in columns)
        declared = [one for one in columns if one.kind is not inspect.Parameter.VAR_KEYWORD]
        if not columns:
            raise ConfigError(f"{place} takes no parameters; give it one for each column, or **kwargs")
        self._whole = len(columns) == 1 and not self.open and _is_record(declared[0].annotation)
        self._parameters = [self._parameter(one) for one in declared]
        self._record, self.input_schema = self._adapter(declared)
        self.output_schema = _output_schema(signature.return_annotation)

    def arguments(self, record: Mapping[str, Any], row: int) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for one record. Raises InvalidData."""
        given = dict(record)
        for parameter in () if self._whole else self._parameters:
            # An empty CSV cell means "not given"; a hint that admits None decides for None itself.
            if parameter.optional and not parameter.accepts_none and given.get(parameter.name, 0) is None:
                del given[parameter.name]
        try:
            value = self._record.validate_python(given)
        except ValidationError as error:
            raise self._mistake(error.errors(include_url=False, include_input=False)[0], row) from None
        positional: list[Any] = []
        keywords: dict[str, Any] = dict(value.model_extra or {}) if self.open else {}
        for position, parameter in enumerate(self._parameters):
            argument = value if self._whole else getattr(value, f"p{position}")
            if parameter.positional_only:
                positional.append(argument)
            else:
                keywords[parameter.name] = argument
        return positional, keywords | dict(self._bound)

    def _parameter(self, parameter: inspect.Parameter) -> _Parameter:
        try:
            TypeAdapter(_hint(parameter)).validate_python(None)
            accepts_none = True
        except ValidationError:
            accepts_none = False
        except (PydanticUserError, TypeError) as error:
            raise self._unsupported(parameter.name) from error
        only = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        return _Parameter(parameter.name, only, parameter.default, accepts_none)

    def _adapter(self, declared: list[inspect.Parameter]) -> tuple[TypeAdapter[Any], Mapping[str, Any]]:
        try:
            if self._whole:
                adapter: TypeAdapter[Any] = TypeAdapter(declared[0].annotation)
                return adapter, _inlined(adapter.json_schema())
            # Fields are called p0, p1, …, because a column may have any name: `json`, `_x`, `copy`.
            fields: dict[str, Any] = {
                f"p{position}": (
                    _hint(one),
                    Field(... if one.default is one.empty else one.default, alias=one.name, title=one.name),
                )
                for position, one in enumerate(declared)
            }
            config = ConfigDict(extra="allow" if self.open else "forbid", title="Record")
            record = create_model("Record", __config__=config, __doc__=self._summary, **fields)
            adapter = TypeAdapter(record)
            return adapter, _inlined(adapter.json_schema())
        except (PydanticUserError, TypeError) as error:
            raise ConfigError(f"{self._place}: its type hints are not supported: {error}") from error

    def _unsupported(self, name: str) -> ConfigError:
        return ConfigError(
            f"{self._place}: the type of parameter {name!r} has no JSON form; use int, float, str, bool, "
            "Literal, list, dict, Optional, dataclasses or pydantic models (a function over data frames is "
            "called `score`)"
        )

    def _mistake(self, error: ErrorDetails, row: int) -> InvalidData:
        column = ".".join(str(part) for part in error["loc"])
        place = f"row {row}, column {column!r}" if column else f"row {row}"
        match error["type"]:
            case "missing":
                message = f"{place} is missing; the model needs it"
            case "extra_forbidden":
                known = ", ".join(self.input_schema.get("properties", ()))
                message = f"{place} is not one of the model's: {known}"
            case kind if kind in _OWN_WORDS:
                message = f"{place}: the value is not valid"
            case _:
                message = f"{place}: {error['msg']}"
        return InvalidData(message, param=f"{row}.{column}")


def _hint(parameter: inspect.Parameter) -> Any:
    return Any if parameter.annotation is parameter.empty else parameter.annotation


def _is_record(annotation: Any) -> bool:
    """Whether the type is a record by itself: a pydantic model, a dataclass, a TypedDict."""
    if not isinstance(annotation, type):
        return is_typeddict(annotation)
    return (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation) or is_typeddict(annotation)
    )


def _output_schema(annotation: Any) -> Mapping[str, Any]:
    """Nothing is promised of a return type that pydantic does not know."""
    if annotation is inspect.Signature.empty:
        return {}
    try:
        return _inlined(TypeAdapter(annotation).json_schema(mode="serialization"))
    except (PydanticUserError, TypeError):
        return {}


def _inlined(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without `$defs`, so that it can stand anywhere in a larger document.

    A type that contains itself is spelt out once; deeper down it is any object.
    """
    definitions = schema.get("$defs", {})

    def resolved(node: Any, inside: frozenset[str]) -> Any:
        if isinstance(node, list):
            return [resolved(one, inside) for one in node]
        if not isinstance(node, dict):
            return node
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        if not name:
            return {key: resolved(value, inside) for key, value in node.items() if key != "$defs"}
        if name in inside:
            return {"type": "object"}
        beside = {key: value for key, value in node.items() if key not in ("$ref", "$defs")}
        return resolved(definitions[name], inside | {name}) | beside

    inlined: dict[str, Any] = resolved(schema, frozenset())
    return inlined


class FunctionRunner:
    """Calls a function once for each record; all records are checked before the first call."""

    def __init__(
        self,
        function: Callable[..., Any],
        code: UserCode,
        *,
        place: str,
        describe: str,
        metadata: Metadata,
        bound: Mapping[str, Any],
        close: Callable[[], None] | None = None,
    ) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"{place} yields; this version serves functions that return their answer")
        self._function = function
        self._code = code
        self._signature = Signature(function, place, bound)
        self._close = close
        self._metadata = metadata
        self._name = getattr(function, "__name__", "predict")
        self.describe = f"{describe}, called once for each record"
        self.schema = Schema(self._signature.input_schema, self._signature.output_schema)

    @property
    def target_type(self) -> TargetType | None:
        return self._metadata.target.type

    @property
    def class_labels(self) -> tuple[str, ...] | None:
        return self._metadata.target.labels or None

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._metadata.raw

    def predict(self, table: Table, parameters: Mapping[str, Any]) -> PredictResult:
        unknown = parameters.keys() - self.schema.input.get("properties", {}).keys()
        if unknown and not self._signature.open:
            raise UnsupportedParameter(f"the model takes no parameter {min(unknown)!r}", param=min(unknown))
        records = [
            {**parameters, **dict(zip(table.columns, cells, strict=True))}
            for cells in zip(*table.data, strict=True)
        ]
        arguments = [self._signature.arguments(record, row) for row, record in enumerate(records)]
        return PredictResult([self._one(positional, keywords, table) for positional, keywords in arguments])

    def _one(self, positional: list[Any], keywords: dict[str, Any], table: Table) -> Any:
        result = self._code.call(self._name, table, partial(self._function, *positional, **keywords))
        try:
            return plain(result)
        except NotPlain as error:
            raise model_error(f"model {self._code.model!r}: {self._name} returned {error}") from error

    def close(self) -> None:
        self._code.close()
        if self._close is not None:
            self._close()
