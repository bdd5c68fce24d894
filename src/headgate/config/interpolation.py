"""`${VAR}`, `${VAR:-default}` and `${file:path}` in the texts of a configuration; `$$` is a plain `$`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{file:(?P<file>[^}]+)\}"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-(?P<default>[^}]*))?\}"
    r"|(?P<broken>\{))"
)
_LARGEST_FILE = 1_000_000


class InterpolationError(ValueError):
    """A reference that can't be followed. The message names the variable or file, never a value."""


def interpolate(
    text: str, *, environ: Mapping[str, str], base_dir: Path, files: set[Path] | None = None
) -> str:
    """`text` with its references replaced. A file's trailing line break is dropped.

    Args:
        base_dir: what relative paths in `${file:…}` are relative to.
        files: gets each file that is referred to, readable or not.

    Raises:
        InterpolationError: a variable is not set, a file can't be read, or a reference is malformed.
    """

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["broken"]:
            raise InterpolationError(
                "malformed reference; write ${NAME}, ${NAME:-default} or ${file:path}, and $$ for a plain $"
            )
        if match["file"]:
            path = base_dir / Path(match["file"]).expanduser()
            if files is not None:
                files.add(path)
            return _content(match["file"], path)
        return _variable(match["name"], match["default"] if match["or"] else None, environ)

    return _REFERENCE.sub(value, text)


def _variable(name: str, default: str | None, environ: Mapping[str, str]) -> str:
    found = environ.get(name)
    if default is not None:
        return found or default
    if found is None:
        raise InterpolationError(
            f"environment variable {name} is not set; set it, or give a default: ${{{name}:-…}}"
        )
    return found


def _content(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise InterpolationError(f"{name} is larger than 1 MB: not a secret or a setting")
        return data.decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InterpolationError(f"can't read {path}: {reason}") from error
    except UnicodeDecodeError as error:
        raise InterpolationError(f"{path} is not UTF-8 text") from error
