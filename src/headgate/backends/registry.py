"""Backends by name. Built-in rows and outsiders' entry points go the same way and load only when used.

An outsider's package declares, in its own metadata, an entry point of the group `headgate.backends` whose
object is a `BackendType`; its name is what `backend:` says in the configuration.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from typing_extensions import override

from headgate.backends.pools import Pools
from headgate.config.schema import TargetSettings
from headgate.core.backend import Backend, Timeouts
from headgate.core.errors import ConfigError

GROUP = "headgate.backends"

BUILT_IN: Mapping[str, str] = {
    "openai": "headgate.backends.presets:OPENAI",
    "openai-compatible": "headgate.backends.presets:OPENAI_COMPATIBLE",
    "anthropic": "headgate.backends.presets:ANTHROPIC",
    "gemini": "headgate.backends.presets:GEMINI",
    "azure-openai": "headgate.backends.clouds:AZURE_OPENAI",
    "vertex": "headgate.backends.clouds:VERTEX",
    "bedrock": "headgate.backends.clouds:BEDROCK",
    "mistral": "headgate.backends.presets:MISTRAL",
    "groq": "headgate.backends.presets:GROQ",
    "deepseek": "headgate.backends.presets:DEEPSEEK",
    "xai": "headgate.backends.presets:XAI",
    "openrouter": "headgate.backends.presets:OPENROUTER",
    "together": "headgate.backends.presets:TOGETHER",
    "fireworks": "headgate.backends.presets:FIREWORKS",
    "cohere": "headgate.backends.presets:COHERE",
    "nvidia-nim": "headgate.backends.presets:NVIDIA_NIM",
    "jina": "headgate.backends.presets:JINA",
    "ollama": "headgate.backends.presets:OLLAMA",
    "vllm": "headgate.backends.presets:VLLM",
    "llama-cpp": "headgate.backends.presets:LLAMA_CPP",
    "lm-studio": "headgate.backends.presets:LM_STUDIO",
    "tei": "headgate.backends.presets:TEI",
    "scripted": "headgate.backends.scripted:SCRIPTED",
    "gguf": "headgate.local.engine:GGUF",
    "embedding": "headgate.local.engine:EMBEDDING",
    "folder": "headgate.local.custom:FOLDER",
    "python": "headgate.local.custom:PYTHON",
}


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a backend may need of the server that it is built for.

    Args:
        model: the public name it answers for.
        target: name of the target, unique in the server.
        timeouts: seconds, already merged.
        pools: connections, shared by all targets at one origin.
        offline: nothing may be fetched.
    """

    model: str
    target: str
    timeouts: Timeouts
    pools: Pools
    offline: bool = False


@dataclass(frozen=True, slots=True)
class BackendType:
    """A row of the registry: the settings that a target of this kind takes, and how to build it.

    `build` does no I/O that can wait; that belongs in the backend's `start`. Raises ConfigError.
    """

    settings: type[TargetSettings]
    build: Callable[[TargetSettings, BuildContext], Backend]


class Registry(Mapping[str, type[TargetSettings]]):
    """Backend names to their settings classes, as `headgate.config.load` wants them."""

    def __init__(self) -> None:
        self._sources: dict[str, Callable[[], object]] = {
            name: lambda path=path: _import(path)  # type: ignore[misc]
            for name, path in BUILT_IN.items()
        }
        for point in entry_points(group=GROUP):
            self._sources.setdefault(point.name, point.load)
        self._loaded: dict[str, BackendType] = {}

    def row(self, name: str) -> BackendType:
        """Raises KeyError for an unknown name, ConfigError for a row that can't be loaded."""
        if name not in self._loaded:
            source = self._sources[name]
            try:
                row = source()
            except ImportError as error:
                raise ConfigError(f"backend {name!r} can't be loaded: {error}") from error
            if not isinstance(row, BackendType):
                raise ConfigError(f"backend {name!r}: its entry point is not a headgate BackendType")
            self._loaded[name] = row
        return self._loaded[name]

    @override
    def __getitem__(self, name: str) -> type[TargetSettings]:
        return self.row(name).settings

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    @override
    def __len__(self) -> int:
        return len(self._sources)

    @override
    def __contains__(self, name: object) -> bool:
        return name in self._sources


def _import(path: str) -> object:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
