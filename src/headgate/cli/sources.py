"""What SOURCE on the command line stands for, and how it is shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headgate.cli.output import table

if TYPE_CHECKING:
    from headgate.config.schema import Settings, TargetSettings
    from headgate.config.sources import Source


def load_settings(source: str | None, options: Mapping[str, str]) -> Settings:
    """The settings that `source` stands for, `options` of the command line applied. Raises ConfigError."""
    return open_source(source, options).read()


def open_source(source: str | None, options: Mapping[str, str]) -> Source:
    """What `source` stands for, to be read more than once."""
    from headgate.backends.registry import Registry
    from headgate.config.sources import Source

    _import_from_here()
    return Source(source, backends=Registry(), options=options)


def _import_from_here() -> None:
    """Let `module:attribute` name a module of the current folder. Last: it hides nothing installed."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def model_table(settings: Settings) -> str:
    """Every target of every model, one in a line."""
    rows = []
    for name, model in settings.models.items():
        for target in model.targets:
            upstream = target.model or ("" if _place(target) else name)
            cells = (target.backend, upstream, _place(target), f"{target.weight:g}", str(target.priority))
            rows.append((name, *cells))
    return table(("MODEL", "BACKEND", "UPSTREAM MODEL", "WHERE", "WEIGHT", "PRIORITY"), rows)


def _place(target: TargetSettings) -> str:
    """Where a target answers from, by whichever option its backend has for that."""
    for option in ("base_url", "weights", "folder", "python", "account"):
        if value := getattr(target, option, None):
            return _without_credentials(str(value)) if option == "base_url" else str(value)
    return ""


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
