"""What `headgate serve` may be pointed at, and the words for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headgate.config.schema import ConfigPath, TargetSettings
from headgate.config.sources import EMBEDDED, resolve
from headgate.core.errors import ConfigError


class WeightsSettings(TargetSettings):
    weights: str


class FolderSettings(TargetSettings):
    folder: ConfigPath


class PythonSettings(TargetSettings):
    python: str


BACKENDS: Mapping[str, type[TargetSettings]] = {
    "gguf": WeightsSettings,
    "embedding": WeightsSettings,
    "folder": FolderSettings,
    "python": PythonSettings,
}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def resolved(source: str | None) -> dict[str, TargetSettings]:
    settings = resolve(source, backends=BACKENDS, environ={})
    return {name: model.targets[0] for name, model in settings.models.items()}


def model_folder(path: str, file: str = "custom.py") -> Path:
    folder = Path(path)
    folder.mkdir(parents=True)
    (folder / file).touch()
    return folder


def test_nothing_is_the_embedded_models() -> None:
    models = resolved(None)
    assert list(models) == list(EMBEDDED) == ["smollm2", "minilm"]
    assert [target.backend for target in models.values()] == ["gguf", "embedding"]


def test_environment_overrides_without_a_file() -> None:
    settings = resolve(None, backends=BACKENDS, environ={"HEADGATE_PORT": "81"})
    assert settings.server.port == 81


@pytest.mark.parametrize("file", ["custom.py", "model.onnx", "model.skops"])
def test_a_folder_is_one_model_named_after_it(file: str) -> None:
    model_folder("wine", file)
    target = resolved("./wine/")["wine"]
    assert isinstance(target, FolderSettings)
    assert target.folder == Path.cwd() / "wine"


def test_the_current_folder_is_named_after_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_folder("wine"))
    assert list(resolved(".")) == ["wine"]


def test_a_folder_of_folders_is_several_models() -> None:
    for path in ("all/b", "all/a", "all/.hidden"):
        model_folder(path)
    model_folder("all/notes", "README.md")
    assert list(resolved("all")) == ["a", "b"]


@pytest.mark.parametrize("name", ["model.onnx", "model.skops", "MODEL.ONNX"])
def test_a_model_file(name: str) -> None:
    Path(name).touch()
    target = resolved(name)[Path(name).stem]
    assert isinstance(target, FolderSettings)
    assert target.folder == Path.cwd() / name


def test_an_attribute_of_a_module() -> None:
    target = resolved("mypackage.models:predict")["models"]
    assert isinstance(target, PythonSettings)
    assert target.python == "mypackage.models:predict"


def test_a_configuration_file() -> None:
    Path("x.yml").write_text("models: {m: {folder: x}}")
    assert list(resolved("x.yml")) == ["m"]


TAKEN = (
    "give a configuration (.yaml, .yml, .json), a model file (.onnx, .skops), a folder with custom.py or a "
    "model file, a folder of such folders, or module:attribute"
)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("wnie", f'wnie: there is no such file or folder (did you mean "wine"?); {TAKEN}'),
        ("zzz.onnx", f"zzz.onnx: there is no such file or folder; {TAKEN}"),
        ("no/such/x", f"no/such/x: there is no such file or folder; {TAKEN}"),
        ("a:b:c", f"a:b:c: there is no such file or folder; {TAKEN}"),
        ("notes.txt", f"notes.txt: is not something to serve; {TAKEN}"),
        (
            "empty",
            "empty: holds no model: no custom.py, *.onnx, *.skops in it or in a folder in it; "
            'did you mean "empty/headgate.yaml"?',
        ),
    ],
)
def test_sources_that_are_none(source: str, words: str) -> None:
    model_folder("wine")
    model_folder("empty", "headgate.yaml")
    Path("notes.txt").touch()
    with pytest.raises(ConfigError) as caught:
        resolved(source)
    assert caught.value.message == words


def test_a_folder_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    model_folder("locked", "README.md")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigError, match=r"^locked: can't be read: permission denied$"):
        resolved("locked")


def test_a_source_in_a_folder_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ConfigError, match=r"^locked/x\.yaml: can't be read: permission denied$"):
        resolved("locked/x.yaml")
