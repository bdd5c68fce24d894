"""What `headgate serve` was pointed at, turned into `Settings`.

Nothing, a configuration file, a model file, a folder that is a model, a folder of such folders, or
`module:attribute`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from headgate.config.document import Document
from headgate.config.load import load, settings
from headgate.config.problems import Problems, near
from headgate.config.schema import Settings, TargetSettings
from headgate.core.errors import ConfigError

CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
MODEL_SUFFIXES = (".onnx", ".skops")
CUSTOM_CODE = "custom.py"
Models: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Raw settings by model name, as in a file."""
Stamp: TypeAlias = tuple[int, int, int] | None
Stamps: TypeAlias = Mapping[Path, Stamp]

EMBEDDED: Models = {
    "smollm2": {"backend": "gguf", "weights": "catalog:smollm2"},
    "minilm": {"backend": "embedding", "weights": "catalog:minilm"},
}
"""The models that are served when nothing is named."""

_ATTRIBUTE = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_TAKEN = (
    f"a configuration ({', '.join(CONFIG_SUFFIXES)}), a model file ({', '.join(MODEL_SUFFIXES)}), "
    f"a folder with {CUSTOM_CODE} or a model file, a folder of such folders, or module:attribute"
)


def resolve(
    source: str | None,
    *,
    backends: Mapping[str, type[TargetSettings]],
    environ: Mapping[str, str] = os.environ,
    options: Mapping[str, str] | None = None,
    files: set[Path] | None = None,
) -> Settings:
    """The settings that `source` stands for; None stands for the embedded models.

    `options` override settings of `server` by name, as the command line does. `files` gets the files that
    are read for it.

    Raises:
        ConfigError: there is no such thing, it is not something to serve, or it is wrong.
    """
    models = EMBEDDED
    if source is not None:
        path = Path(source).expanduser()
        try:
            is_folder, exists = path.is_dir(), path.exists()
        except OSError as error:
            raise ConfigError(f"{source}: can't be read: {_reason(error)}") from None
        if path.suffix.lower() in CONFIG_SUFFIXES and not is_folder:
            return load(path, backends=backends, environ=environ, options=options, files=files)
        models = _folder(path, source) if is_folder else _single(path, source, exists=exists)
    data = {"models": {name: dict(model) for name, model in models.items()}}
    document = Document(data, Problems(source or "embedded models"))
    return settings(document, backends=backends, environ=environ, options=options)


class Source:
    """What the server was pointed at, to be read again and again. `read` and `stamps` block."""

    def __init__(
        self, name: str | None, *, backends: Mapping[str, type[TargetSettings]], options: Mapping[str, str]
    ) -> None:
        self.name = name
        self._backends = backends
        self._options = options
        self._files: set[Path] = set()
        self._read: Stamps = {}

    def read(self) -> Settings:
        """Its settings as they are now. Raises ConfigError as `resolve` does."""
        before = self.stamps()
        files: set[Path] = set()
        try:
            return resolve(self.name, backends=self._backends, options=self._options, files=files)
        finally:
            self._files = files or self._files  # where not even the path could be looked at: go on looking
            self._read = {**self.stamps(), **{path: before[path] for path in self._files & before.keys()}}

    @property
    def watchable(self) -> bool:
        """It is a file, or was when it was read: there is something to watch."""
        return bool(self._files)

    @property
    def read_stamps(self) -> Stamps:
        """As the files were when they were read last; those of a file that has changed meanwhile differ."""
        return self._read

    def stamps(self) -> Stamps:
        """What tells whether the configuration, or a file that it refers to, has changed."""
        return {path: _stamp(path) for path in self._files}


def _stamp(path: Path) -> Stamp:
    """None where there is no such file. Links are followed: Kubernetes changes a mounted secret by a link."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _single(path: Path, source: str, *, exists: bool) -> Models:
    """A model file, or `module:attribute`."""
    if exists:
        if path.suffix.lower() in MODEL_SUFFIXES:
            return {path.stem: _one(path)}
        raise ConfigError(f"{source}: is not something to serve; give {_TAKEN}")
    if match := _ATTRIBUTE.fullmatch(source):
        return {match["module"].rpartition(".")[2]: {"backend": "python", "python": source}}
    raise ConfigError(f"{source}: there is no such file or folder{_meant(path)}; give {_TAKEN}")


def _one(path: Path) -> dict[str, Any]:
    return {"backend": "folder", "folder": str(path.absolute())}


def _folder(path: Path, source: str) -> Models:
    try:
        if _is_model(path):
            return {path.resolve().name: _one(path)}
        inner = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
        models = {child.name: _one(child) for child in inner if _is_model(child)}
        configs = sorted(child.name for child in path.iterdir() if child.suffix in CONFIG_SUFFIXES)
    except OSError as error:
        raise ConfigError(f"{source}: can't be read: {_reason(error)}") from None
    if models:
        return models
    looked_for = ", ".join((CUSTOM_CODE, *(f"*{suffix}" for suffix in MODEL_SUFFIXES)))
    meant = f'; did you mean "{path / configs[0]}"?' if configs else ""
    raise ConfigError(f"{source}: holds no model: no {looked_for} in it or in a folder in it{meant}")


def _is_model(path: Path) -> bool:
    """Whether a folder is one model: it has code, or a model file that needs none."""
    return (path / CUSTOM_CODE).is_file() or any(
        child.suffix.lower() in MODEL_SUFFIXES and child.is_file() for child in path.iterdir()
    )


def _meant(path: Path) -> str:
    try:
        guess = near(path.name, (child.name for child in path.absolute().parent.iterdir()))
    except OSError:
        return ""
    return f' (did you mean "{path.with_name(guess)}"?)' if guess else ""


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
