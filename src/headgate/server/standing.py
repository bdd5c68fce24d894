"""What serves now, seen as what a new configuration may keep of it: backends, health, queues, quotas."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from headgate.config.schema import Settings, TargetSettings
from headgate.core.backend import Timeouts
from headgate.routing.quota import Quota
from headgate.routing.route import Route, Router
from headgate.routing.target import Target

ROUTING = frozenset(
    {"weight", "priority", "max_concurrency", "timeouts", "lacks", "context_length", "quota", "probe"}
)
"""Settings of a target that its backend does not see: they change while it goes on. Its timeouts are compared
as they hold for it, merged with the model's."""

QuotaKey: TypeAlias = tuple[object, ...]


def quota_key(settings: TargetSettings, model: str) -> QuotaKey | None:
    """Equal for targets that draw on one quota: the same address, key and upstream model, unless the operator
    names it. None: the target has one of its own."""
    if settings.quota is not None:
        return (settings.quota,)
    own = settings.model_dump(include={"account", "base_url", "api_key"})
    account = [own.get(part) for part in ("account", "base_url", "api_key")]
    return (settings.backend, *account, settings.model or model) if any(account) else None


class Standing:
    """The targets that serve now, each to be taken by one of a new configuration, at most.

    Args:
        settings: what they were made from; None: nothing serves.
        failed: targets that could not be started. They are made anew.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        router: Router | None = None,
        failed: Collection[Target] = (),
    ) -> None:
        self.quotas: dict[QuotaKey, Quota] = {}
        self.routes: dict[str, Route] = dict(router.routes) if router is not None else {}
        self._settings = settings
        self._left: dict[str, list[tuple[object, Target]]] = {}
        for name, route in self.routes.items():
            assert settings is not None
            model = settings.models[name]
            left = self._left[name] = []
            for said, target in zip(model.targets, route.targets, strict=True):
                if target not in failed:
                    left.append((_identity(said, target.timeouts, settings), target))
                if (key := quota_key(said, name)) is not None:
                    self.quotas[key] = target.health.quota

    def take(
        self, model: str, name: str, said: TargetSettings, timeouts: Timeouts, settings: Settings
    ) -> Target | None:
        """The target of `model` that has the same backend; of several, the one of the same `name`."""
        wanted = _identity(said, timeouts, settings)
        left = self._left.get(model, [])
        same = [each for each in left if each[0] == wanted]
        if not same:
            return None
        found = next((each for each in same if each[1].name == name), same[0])
        left.remove(found)
        return found[1]


def _identity(said: TargetSettings, timeouts: Timeouts, settings: Settings) -> object:
    """Compares equal for targets whose backends would be made alike. Holds secrets: not to be shown."""
    account = settings.accounts.get(getattr(said, "account", None) or "")
    return type(said), said.model_dump(exclude=set(ROUTING)), timeouts, account
