"""Finding a model's artefact and loading it without code of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from headgate.core.errors import ConfigError, MissingExtra
from headgate.core.operations import Table
from headgate.local.metadata import Metadata, Target
from headgate.local.runner import LoadOptions
from headgate.local.targets import Scores

LOADED = (".onnx", ".skops")
PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth")
NATIVE = (".ubj", ".bst", ".xgb", ".lgb", ".cbm", ".h5", ".keras", ".safetensors")


class Scorer(Protocol):
    """A model that turns a table into scores."""

    @property
    def model(self) -> Any:
        """The object itself, which hooks get."""
        ...

    @property
    def describe(self) -> str: ...

    @property
    def target(self) -> Target:
        """What the metadata says, completed by what the model knows of itself."""
        ...

    @property
    def input_schema(self) -> Mapping[str, Any] | None: ...

    def score(self, table: Table) -> Scores:
        """Raises InvalidData for a table that does not fit; anything else that the library raises."""
        ...


def find_artefact(folder: Path) -> Path:
    """The only artefact at the folder's top level. Raises ConfigError for none, several or an unsafe one."""
    known = LOADED + PICKLES + NATIVE
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in known and path.is_file())
    loadable = [path for path in found if path.suffix.lower() in LOADED]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(
            f"{folder}: several artefacts ({names}); leave one, "
            "or choose in a custom.py with load_model(code_dir)"
        )
    if loadable:
        return loadable[0]
    if found:
        raise refused(found[0])
    raise ConfigError(
        f"{folder}: no model found; put one artefact ({', '.join(LOADED)}) into it, "
        "or a custom.py with load_model(code_dir) or predict"
    )


def refused(path: Path) -> ConfigError:
    """Why an artefact is not loaded, and what to do instead."""
    suffix = path.suffix.lower()
    loader = "write a custom.py with load_model(code_dir), if you trust the file"
    if suffix in PICKLES:
        return ConfigError(
            f"{path}: a {suffix} file runs code when it is loaded, so it is not loaded by itself; "
            f"save the model with skops (skops.io.dump) or as ONNX, or {loader}"
        )
    if suffix in NATIVE:
        return ConfigError(f"{path}: {suffix} files are not loaded without code yet; {loader}")
    return ConfigError(f"{path}: is no artefact that can be served; served are {', '.join(LOADED)}")


def load_artefact(path: Path, metadata: Metadata, options: LoadOptions) -> Scorer:
    """Raises ConfigError (MissingExtra where the library is not installed)."""
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        try:
            from headgate.local.onnx import OnnxScorer
        except ImportError:
            raise MissingExtra(f"{path}: an ONNX model", "onnx") from None
        return OnnxScorer.load(path, metadata.target)
    if suffix == ".skops":
        try:
            from headgate.local.estimators import load_skops
        except ImportError:
            raise MissingExtra(f"{path}: a skops model", "sklearn") from None
        return load_skops(path, metadata.target, options.trust_types)
    raise refused(path)


def scorer_of(model: Any, target: Target, place: str) -> Scorer | None:
    """A scorer for what `load_model` returned, where its kind is known; None otherwise."""
    if type(model).__module__.startswith("onnxruntime."):
        from headgate.local.onnx import OnnxScorer

        return OnnxScorer(model, target, place)
    if callable(getattr(model, "predict", None)):
        try:
            from headgate.local.estimators import EstimatorScorer
        except ImportError:
            raise MissingExtra(f"{place}: an estimator", "sklearn") from None
        return EstimatorScorer(model, target, place)
    return None
