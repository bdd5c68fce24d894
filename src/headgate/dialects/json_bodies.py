"""Reading JSON that others wrote: every surprise is an InvalidRequest that names the field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import msgspec

from headgate.core.errors import InvalidRequest
from headgate.dialects.json_weight import check_weight

MAX_ITEMS = 16_384
"""Items of one list that is walked in Python. A longer one would hold up the event loop."""

_DECODER = msgspec.json.Decoder()

_TYPE_NAMES: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def decode_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises InvalidRequest for anything else."""
    check_weight(body)
    try:
        value = _DECODER.decode(body)
    except (ValueError, RecursionError) as error:
        refuse_body(error)
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"The request body must be a JSON object, but it is {type_name(value)}.", code="invalid_json"
        )
    return value


def refuse_body(error: Exception) -> NoReturn:
    """Say why a body could not be parsed, without quoting it."""
    if isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):
        reason = "it is not valid UTF-8"
    else:
        reason = str(error)
    raise InvalidRequest(
        f"The JSON body of the request could not be parsed ({reason}). Send one JSON object in UTF-8.",
        code="invalid_json",
    ) from None


def encode(value: object) -> bytes:
    """JSON text. Raises InvalidRequest where the value is too deep to be written."""
    try:
        return msgspec.json.encode(value)
    except RecursionError:
        raise InvalidRequest("The request is nested too deeply.", code="invalid_json") from None


def type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def join(path: str, key: str | int) -> str:
    """`messages` and 2 give `messages[2]`; that and `role` give `messages[2].role`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def missing(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def wrong_type(param: str, expected: str, value: object) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid type for '{param}': expected {expected}, but got {type_name(value)} instead.",
        param=param,
        code="invalid_type",
    )


def wrong_value(param: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': {rule}.", param=param, code="invalid_value")


class Fields:
    """One JSON object being read. Each reader takes its field out; `rest()` gives what nobody took.

    A field that is null counts as left out, as OpenAI's API has it. Readers raise InvalidRequest with
    `param` set to the full path.
    """

    __slots__ = ("_values", "path")

    def __init__(self, value: Mapping[str, Any], path: str = "") -> None:
        self._values = dict(value)
        self.path = path

    @classmethod
    def of(cls, value: object, path: str) -> Fields:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object", value)
        return cls(value, path)

    def param(self, key: str | int) -> str:
        return join(self.path, key)

    def take(self, key: str) -> Any:
        return self._values.pop(key, None)

    def peek(self, key: str) -> Any:
        return self._values.get(key)

    def rest(self) -> dict[str, Any]:
        """Unknown fields, nulls included: they are the upstream's to judge."""
        return self._values

    def text(self, key: str) -> str | None:
        value = self._values.pop(key, None)
        if value is None or isinstance(value, str):
            return value
        raise wrong_type(self.param(key), "a string", value)

    def required_text(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise missing(self.param(key))
        return value

    def word(self, key: str, allowed: Collection[str]) -> str:
        value = self.required_text(key)
        if value not in allowed:
            names = ", ".join(f"'{name}'" for name in allowed)
            raise wrong_value(self.param(key), f"supported values are {names}")
        return value

    def boolean(self, key: str) -> bool | None:
        value = self._values.pop(key, None)
        if value is None or isinstance(value, bool):
            return value
        raise wrong_type(self.param(key), "a boolean", value)

    def integer(self, key: str, minimum: int | None = None) -> int | None:
        value = self._values.pop(key, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(self.param(key), "an integer", value)
        if minimum is not None and value < minimum:
            raise wrong_value(self.param(key), f"it must be {minimum} or more")
        return value

    def number(self, key: str) -> float | None:
        value = self._values.pop(key, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(self.param(key), "a number", value)
        return value

    def items(self, key: str) -> list[Any] | None:
        value = self._values.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, list):
            raise wrong_type(self.param(key), "an array", value)
        return bounded(value, self.param(key))

    def fields(self, key: str) -> Fields | None:
        value = self._values.pop(key, None)
        return None if value is None else Fields.of(value, self.param(key))

    def required_fields(self, key: str) -> Fields:
        fields = self.fields(key)
        if fields is None:
            raise missing(self.param(key))
        return fields

    def mapping(self, key: str) -> dict[str, Any] | None:
        """An object that is handed on as it is (a JSON schema, say)."""
        value = self._values.pop(key, None)
        if value is None or isinstance(value, dict):
            return value
        raise wrong_type(self.param(key), "an object", value)


def bounded(value: list[Any], param: str) -> list[Any]:
    if len(value) > MAX_ITEMS:
        raise wrong_value(param, f"it has {len(value):,} items where at most {MAX_ITEMS:,} are taken")
    return value
