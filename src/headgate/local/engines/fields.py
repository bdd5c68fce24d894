"""Checks of request fields that both engines share. Every failure names the field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from headgate.core.errors import ConfigError, InvalidRequest, UnsupportedParameter


def no_others(body: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
    """Raises UnsupportedParameter for a field that is not in `known`."""
    for name in body:
        if name not in known:
            raise unsupported(f"{where}{name}", "this engine does not know it")


def unsupported(param: str, why: str) -> UnsupportedParameter:
    return UnsupportedParameter(f"{param} is not supported by this model: {why}", param=param)


def wrong(param: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"{param} must be {expected}", param=param)


def option_count(options: Mapping[str, Any], name: str, least: int) -> None:
    """Raises ConfigError unless an engine's option is absent, None, or a whole number from `least` on."""
    value = options.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ConfigError(f"option {name} must be a whole number of at least {least}")


def option_kind(options: Mapping[str, Any], name: str, kind: type, expected: str) -> None:
    value = options.get(name)
    if value is not None and not isinstance(value, kind):
        raise ConfigError(f"option {name} must be {expected}")


def option_names(options: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """Raises ConfigError for an option that is not in `known`, or without the model."""
    for name in options:
        if name not in known:
            raise ConfigError(f"option {name!r} is not known: {what} takes {', '.join(sorted(known))}")
    if not isinstance(options.get("model"), str):
        raise ConfigError("option model must be the path of the weights")


def text(body: Mapping[str, Any], name: str, where: str = "") -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise wrong(where + name, "a string")
    return value


def boolean(body: Mapping[str, Any], name: str, *, default: bool = False, where: str = "") -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong(where + name, "true or false")
    return value


def number(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise wrong(name, f"a number from {low:g} to {high:g}")
    return value


def whole(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(name, f"a whole number from {low} to {high}")
    return value


def mapping(value: Any, param: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise wrong(param, "an object")
    return value
