"""From a YAML file and the environment to `Settings`, or to one ConfigError that names every mistake."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from headgate.config.document import Document, read
from headgate.config.problems import SettingPath, near, unknown
from headgate.config.schema import (
    ModelSettings,
    ServerSettings,
    Settings,
    SettingsModel,
    TargetSettings,
)
from headgate.core.errors import ConfigError

ENV_PREFIX = "HEADGATE_"
SUGARS = ("folder", "python")
"""Options that name their backend by themselves: `folder: ./x` is `{backend: folder, folder: ./x}`."""

_SHARED = tuple(name for name in ModelSettings.model_fields if name != "targets")
_LONGEST_NAME = 256
_EXAMPLE = "models: {smollm2: {backend: gguf, weights: catalog:smollm2}}"
_M = TypeVar("_M", bound=SettingsModel)


def load(
    path: str | Path,
    *,
    backends: Mapping[str, type[TargetSettings]],
    environ: Mapping[str, str] = os.environ,
    options: Mapping[str, str] | None = None,
    files: set[Path] | None = None,
) -> Settings:
    """The configuration in the file at `path`.

    Args:
        backends: the settings class of each backend name.
        environ: where `${NAME}` and the overrides of `server` come from.
        options: further overrides of `server` by setting, from the command line; they win.
        files: gets the files that are read, those of `${file:…}` included.

    Raises:
        ConfigError: something is wrong; the message has a line for each mistake, with its place in the file.
    """
    document = read(Path(path), environ=environ, files=files)
    return settings(document, backends=backends, environ=environ, options=options)


def settings(
    document: Document,
    *,
    backends: Mapping[str, type[TargetSettings]],
    environ: Mapping[str, str],
    options: Mapping[str, str] | None = None,
) -> Settings:
    """`document`, checked. Raises ConfigError as `load` does."""
    overrides = {
        name: (variable, value)
        for variable, name in override_names().items()
        if (value := environ.get(variable))
    }
    for name, value in (options or {}).items():
        overrides[name] = (f"--{name.replace('_', '-')}", value)
    return _Loading(document, backends).settings(overrides)


def override_names() -> dict[str, str]:
    """Environment variables that override a setting of `server`, with that setting's name."""
    return {ENV_PREFIX + name.upper(): name for name in ServerSettings.model_fields if name != "keys"}


class _Loading:
    """One load: walks the raw data section by section and notes mistakes in the document's problems."""

    def __init__(self, document: Document, backends: Mapping[str, type[TargetSettings]]) -> None:
        self._raw = document.data
        self._problems = document.problems
        self._context = {"base_dir": document.base_dir}
        self._backends = backends

    def settings(self, overrides: Mapping[str, tuple[str, str]]) -> Settings:
        """`overrides`: settings of `server`, each with what it was called and its value."""
        if self._raw is None:
            self._problems.add((), f"is empty; declare at least one model, such as {_EXAMPLE}")
            self._problems.raise_if_any()
        if not isinstance(self._raw, dict):
            self._problems.add((), f"must be a mapping of settings: {', '.join(Settings.model_fields)}")
            self._problems.raise_if_any()
        for name in self._raw:
            if name not in Settings.model_fields:
                self._problems.add((name,), unknown(name, Settings.model_fields))
        server = self._server(overrides)
        models = self._models()
        aliases = self._aliases(self._section("models"))
        self._check_fallbacks(models)
        accounts = self._accounts()
        self._problems.raise_if_any()
        return Settings(server=server or ServerSettings(), models=models, aliases=aliases, accounts=accounts)

    def _section(self, name: str) -> dict[str, Any]:
        """A top-level mapping; nothing where it is left out, empty or wrong."""
        section = self._raw.get(name)
        return section if isinstance(section, dict) else {}

    def _check_section(self, name: str, what: str) -> None:
        section = self._raw.get(name)
        if section is not None and not isinstance(section, dict):
            self._problems.add((name,), f"must be a mapping of {what}")

    def _validated(self, model: type[_M], raw: Any, path: SettingPath) -> _M | None:
        try:
            return model.model_validate(raw, context=self._context)
        except ValidationError as error:
            self._problems.add_invalid(error, path, model, raw)
            return None

    def _server(self, overrides: Mapping[str, tuple[str, str]]) -> ServerSettings | None:
        self._check_section("server", "settings")
        raw = dict(self._section("server"))
        for name, (origin, value) in overrides.items():
            raw[name] = value
            self._problems.origins["server", name] = origin
        return self._validated(ServerSettings, raw, ("server",))

    def _models(self) -> dict[str, ModelSettings]:
        self._check_section("models", "models by name")
        if not self._raw.get("models"):
            self._problems.add(("models",), f"none declared; add at least one, such as {_EXAMPLE}")
        models = {}
        for name, raw in self._section("models").items():
            path = ("models", name)
            self._check_name(name, path)
            if not isinstance(raw, dict):
                self._problems.add(path, f"must be a mapping of settings; {self._ways()}")
            elif model := self._model(raw, path):
                models[name] = model
        return models

    def _check_name(self, name: str, path: SettingPath) -> None:
        if not name.strip():
            self._problems.add(path, "a model needs a name")
        elif not name.isprintable() or name != name.strip():
            self._problems.add(path, "a name must hold no control characters and no spaces around it")
        elif len(name) > _LONGEST_NAME:
            self._problems.add(path[:1], f"a name of {len(name)} characters; {_LONGEST_NAME} at most")

    def _ways(self) -> str:
        return (
            'say what answers: "backend: NAME" '
            f'({", ".join(self._backends) or "none installed"}), "folder: PATH", "python: MODULE:ATTRIBUTE", '
            'or several "targets: [...]"'
        )

    def _model(self, raw: dict[str, Any], path: SettingPath) -> ModelSettings | None:
        shared = {name: value for name, value in raw.items() if name in _SHARED and value is not None}
        own = {name: value for name, value in raw.items() if name not in (*_SHARED, "targets")}
        targets = self._targets(raw, own, path) if "targets" in raw else [self._target(own, path, _SHARED)]
        # A stand-in for targets that are wrong themselves, so that the rest is checked all the same.
        stand_in = TargetSettings(backend="")
        complete = tuple(target for target in targets if target is not None)
        model = self._validated(ModelSettings, {**shared, "targets": complete or (stand_in,)}, path)
        return model if complete else None

    def _targets(
        self, raw: dict[str, Any], own: dict[str, Any], path: SettingPath
    ) -> list[TargetSettings | None]:
        entries = raw["targets"]
        if not isinstance(entries, list) or not entries:
            self._problems.add(
                (*path, "targets"), "must be a list of at least one target, like [{backend: …}]"
            )
            return []
        targets: list[TargetSettings | None] = []
        for index, entry in enumerate(entries):
            here = (*path, "targets", index)
            if isinstance(entry, dict):
                targets.append(self._target(entry, here, ()))
            else:
                self._problems.add(here, "must be a mapping of settings, like {backend: …}")
        self._note_strays(own, targets, path)
        return targets

    def _note_strays(
        self, own: Iterable[str], targets: Iterable[TargetSettings | None], path: SettingPath
    ) -> None:
        """Settings beside `targets` that are not the model's own."""
        kinds = [type(target) for target in targets if target] or [TargetSettings]
        options = {*SUGARS, *(name for kind in kinds for name in kind.model_fields)}
        for name in own:
            if name in options:
                message = (
                    'belongs to a target; move it into each of "targets", or write one target without it'
                )
                self._problems.add((*path, name), message)
            else:
                self._problems.add((*path, name), unknown(name, ("targets", *_SHARED)))

    def _target(
        self, raw: dict[str, Any], path: SettingPath, shared: tuple[str, ...]
    ) -> TargetSettings | None:
        """One target. `shared` are the model's own settings, known here too when it is written inline."""
        backend = self._backend(raw, path)
        if backend is None:
            return None
        try:
            kind = self._backends[backend]
        except ConfigError as error:  # a row whose module can't be imported
            self._problems.add((*path, "backend"), error.message)
            return None
        known = tuple(dict.fromkeys((*kind.model_fields, *shared)))
        strange = [name for name in raw if name not in kind.model_fields]
        for name in strange:
            if name in SUGARS:
                message = f'"backend: {backend}" already says what answers; keep one of the two'
            elif name in _SHARED:
                message = f'belongs to the model; move it beside "targets" (known here: {", ".join(known)})'
            else:
                message = unknown(name, known)
            self._problems.add((*path, name), message)
        fitting = {name: value for name, value in raw.items() if name not in strange}
        return self._validated(kind, {**fitting, "backend": backend}, path)

    def _backend(self, raw: dict[str, Any], path: SettingPath) -> str | None:
        """The backend that `raw` asks for, openly or by a sugar; None when that was noted as wrong."""
        sugars = [name for name in SUGARS if name in raw]
        if "backend" not in raw and len(sugars) == 1:
            return self._known_backend(sugars[0], (*path, sugars[0]))
        if "backend" in raw:
            name = raw["backend"]
            if isinstance(name, str):
                return self._known_backend(name, (*path, "backend"))
            if (*path, "backend") not in self._problems.broken:
                self._problems.add(
                    (*path, "backend"), f"must be the name of a backend: {', '.join(self._backends)}"
                )
        elif sugars:
            self._problems.add(path, 'both "folder" and "python" say what answers; keep one of the two')
        else:
            self._note_no_backend(raw, path)
        return None

    def _known_backend(self, name: str, path: SettingPath) -> str | None:
        if name in self._backends:
            return name
        self._problems.add(path, self._unknown(name, path, "backend", self._backends))
        return None

    def _unknown(self, name: str, path: SettingPath, what: str, known: Iterable[str]) -> str:
        """Words for a value that names nothing; it is shown unless it came from a variable or a file."""
        return unknown(name, known, what=what, named=path not in self._problems.private)

    def _note_no_backend(self, raw: dict[str, Any], path: SettingPath) -> None:
        forms = ("backend", *SUGARS, "targets")
        misspelt = [(name, guess) for name in raw if (guess := near(name, forms))]
        for name, guess in misspelt:
            self._problems.add((*path, name), f'unknown setting; did you mean "{guess}"?')
        if not misspelt:
            self._problems.add(path, self._ways())

    def _aliases(self, models: Mapping[str, Any]) -> dict[str, str]:
        self._check_section("aliases", "other names for models, like {gpt-4: gpt-4o}")
        raw = self._section("aliases")
        resolved = {}
        for alias, target in raw.items():
            path = ("aliases", alias)
            self._check_name(alias, path)
            if path in self._problems.broken:
                continue
            if not isinstance(target, str):
                self._problems.add(path, "must be the name of a model")
            elif alias in models:
                self._problems.add(path, "is the name of a model too; choose another alias or remove it")
            elif final := self._followed(alias, raw, models):
                resolved[alias] = final
        return resolved

    def _followed(self, alias: str, aliases: Mapping[str, Any], models: Mapping[str, Any]) -> str | None:
        """The model at the end of a chain of aliases; None when that was noted as wrong."""
        path, chain = ("aliases", alias), [alias]
        while (name := aliases[chain[-1]]) not in models:
            if name in chain:
                shown = " → ".join([*chain, name])
                self._problems.add(path, f"goes round in a circle ({shown}); name a model")
                return None
            if not isinstance(aliases.get(name), str):
                names = [known for known in (*models, *aliases) if known != alias]
                self._problems.add(path, self._unknown(name, path, "model", names))
                return None
            chain.append(name)
        return str(name)

    def _check_fallbacks(self, models: Mapping[str, ModelSettings]) -> None:
        declared = self._section("models")
        for name, model in models.items():
            for index, fallback in enumerate(model.fallbacks):
                path = ("models", name, "fallbacks", index)
                if fallback == name:
                    self._problems.add(path, "is the model itself; name another one")
                elif fallback not in declared:
                    others = [other for other in declared if other != name]
                    self._problems.add(path, self._unknown(fallback, path, "model", others))

    def _accounts(self) -> dict[str, Any]:
        self._check_section("accounts", "accounts by name")
        accounts = {}
        for name, raw in self._section("accounts").items():
            if isinstance(raw, dict):
                accounts[name] = raw
            elif ("accounts", name) not in self._problems.broken:
                self._problems.add(("accounts", name), "must be a mapping of settings")
        return accounts
