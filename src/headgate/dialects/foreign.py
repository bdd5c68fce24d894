"""What of a request's extensions belongs to another dialect than the one that it is written in."""

from __future__ import annotations

from collections.abc import Iterator

from headgate.core.loss import Loss
from headgate.core.messages import JSON, Extensions
from headgate.dialects.json_bodies import join

UNPADDED = Loss("stream_options.include_obfuscation", "streams are written for callers without padding")


def foreign_losses(extensions: Extensions, path: str, *own: str) -> list[Loss]:
    """One loss for each field that is kept for dialects other than `own`.

    The wish for a stream without padding (OpenAI's `include_obfuscation`) is granted by every encoder.
    """
    return [
        loss
        for dialect, values in extensions.items()
        if dialect not in own
        for key, value in values.items()
        for loss in _of_field(dialect, key, value, path)
    ]


def _of_field(dialect: str, key: str, value: JSON, path: str) -> Iterator[Loss]:
    if key == "stream_options" and isinstance(value, dict) and not path:
        if value.get("include_obfuscation"):
            yield UNPADDED
        names = [f"{key}.{name}" for name in value if name != "include_obfuscation"]
    else:
        names = [key]
    for name in names:
        yield Loss(join(path, name), f"only {dialect} has this field")
