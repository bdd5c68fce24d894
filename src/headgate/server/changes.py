"""What differs between two configurations, in words for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from headgate.config.schema import ServerSettings, Settings

NEEDS_RESTART = ("host", "port", "state", "keep_responses", "log_format", "log_level", "access_log")
"""Settings of `server` that a reload can't change: sockets, files and logs that are open."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of what a reload changes. `restart`: settings that changed and that only a restart takes over.

    `broken` are models that can't be started, with the reason, on a server that keeps going without them.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    def in_words(self) -> str:
        named = (
            ("models added", self.added),
            ("removed", self.removed),
            ("changed", self.changed),
            ("aliases changed", self.aliases),
            ("settings changed", self.settings),
            ("not before a restart", self.restart),
            ("broken", [name for name, _ in self.broken]),
        )
        said = [f"{what}: {', '.join(names)}" for what, names in named if names]
        return "; ".join(said) or "nothing has changed"

    def to_wire(self) -> dict[str, Any]:
        return {
            "models": {"added": self.added, "removed": self.removed, "changed": self.changed},
            "aliases": self.aliases,
            "settings": self.settings,
            "needs_restart": self.restart,
            "broken": dict(self.broken),
        }


def in_effect(new: Settings, running: ServerSettings) -> Settings:
    """`new` as a running server can have it: what needs a restart stays as it is."""
    kept = {name: getattr(running, name) for name in NEEDS_RESTART}
    return new.model_copy(update={"server": new.server.model_copy(update=kept)})


def changes(old: Settings, new: Settings, broken: Mapping[str, str]) -> Changes:
    """From `old`, what is in effect, to `new`, as the file has it."""
    different = [
        name for name in ServerSettings.model_fields if getattr(old.server, name) != getattr(new.server, name)
    ]
    same = old.accounts == new.accounts
    return Changes(
        added=tuple(name for name in new.models if name not in old.models),
        removed=tuple(name for name in old.models if name not in new.models),
        changed=tuple(
            name
            for name, model in new.models.items()
            if name in old.models and not (model == old.models[name] and (same or not _accounts(model)))
        ),
        aliases=_different(old.aliases, new.aliases),
        settings=tuple(f"server.{name}" for name in different if name not in NEEDS_RESTART),
        restart=tuple(f"server.{name}" for name in different if name in NEEDS_RESTART),
        broken=tuple(broken.items()),
    )


def _accounts(model: Any) -> list[str]:
    return [account for target in model.targets if (account := getattr(target, "account", None))]


def _different(old: Mapping[str, T], new: Mapping[str, T]) -> tuple[str, ...]:
    return tuple(name for name in {**old, **new} if old.get(name) != new.get(name))
