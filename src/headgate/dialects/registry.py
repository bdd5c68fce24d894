"""Dialects by name, imported when first used: a server speaks few of them, and each takes its time."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import cast

from headgate.dialects.dialect import Dialect

DIALECTS: Mapping[str, str] = {
    "openai_chat": "headgate.dialects.openai_chat:OPENAI_CHAT",
    "openai_embeddings": "headgate.dialects.openai_embeddings:OPENAI_EMBEDDINGS",
}


@cache
def dialect(name: str) -> Dialect:
    """Raises KeyError for an unknown name."""
    module, _, attribute = DIALECTS[name].partition(":")
    return cast("Dialect", getattr(importlib.import_module(module), attribute))
