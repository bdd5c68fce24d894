"""Loading a model of one's own: a folder, an artefact, or `module:attr`, each to one `Runner`."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headgate.core.errors import ConfigError
from headgate.local.artefacts import Scorer, find_artefact, load_artefact, scorer_of
from headgate.local.frames import require_pandas
from headgate.local.hooks import Hooks, TableRunner, find_hooks
from headgate.local.metadata import Metadata, read_metadata
from headgate.local.modules import FolderModules
from headgate.local.runner import SERVED_TARGET_TYPES, LoadOptions, Runner
from headgate.local.signature import MODEL_PARAMETER, FunctionRunner
from headgate.local.usercode import UserCode

log = logging.getLogger(__name__)

CODE_FILE = "custom.py"
_NOT_RUN = {
    "custom_flask.py": "write a custom_fastapi.py with init_app(app) when this server runs it",
    "custom_fastapi.py": "this version does not run it yet",
}


def load(source: Path | str, *, name: str, options: LoadOptions | None = None) -> Runner:
    """Load a model. Takes as long as its code takes: call it on a thread.

    Args:
        source: a folder, an artefact file, or `module:attr` (a str that is no path).
        name: public name, for messages.

    Raises:
        ConfigError: nothing that can be served, or its code failed; says where, why and what to do.
    """
    options = options or LoadOptions()
    path = Path(source)
    if path.is_dir():
        return _load_folder(path.resolve(), name, options)
    if path.is_file():
        return _load_file(path, name, options)
    if isinstance(source, str) and ":" in source:
        return load_python(source, name=name)
    raise ConfigError(f"{source}: there is no such folder or file")


def load_python(source: str, *, name: str) -> Runner:
    """Load `module:attr`: a function, a class with `predict` (and `setup`), or an object with `predict`.

    The working folder is searched for the module, as `python -m` does. Raises ConfigError.
    """
    module_name, _, attribute = source.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{source!r}: write MODULE:ATTRIBUTE, like mypackage.models:predict")
    working_folder = str(Path.cwd())
    if working_folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, working_folder)
    code = UserCode(name, source)
    module = code.prepare("the import", importlib.import_module, module_name)
    try:
        value = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        raise ConfigError(f"{source}: module {module_name!r} has no {attribute!r}") from None
    return FunctionRunner(
        _function_of(value, code, source),
        code,
        place=source,
        describe=source,
        metadata=Metadata(),
        bound={},
    )


def _load_file(path: Path, name: str, options: LoadOptions) -> Runner:
    if path.suffix.lower() == ".py":
        raise ConfigError(f"{path}: is a file of code; give its folder ({path.parent}) or MODULE:ATTRIBUTE")
    metadata = Metadata()
    scorer = load_artefact(path, metadata, options)
    return TableRunner(
        UserCode(name, str(path)),
        metadata,
        describe=f"{path.name}: {scorer.describe}",
        model=scorer.model,
        scorer=scorer,
    )


def _load_folder(folder: Path, name: str, options: LoadOptions) -> Runner:
    metadata = read_metadata(folder)
    _check_target_type(folder, metadata)
    for file, advice in _NOT_RUN.items():
        if (folder / file).exists():
            log.warning("%s: is not run; %s", folder / file, advice)
    if (folder / CODE_FILE).is_file():
        return _FolderCode(folder, name, metadata, options).runner()
    if (folder / "Custom.py").is_file() or (folder / "custom.R").is_file():
        raise ConfigError(f"{folder}: the code file must be called {CODE_FILE}, and is Python")
    path = find_artefact(folder)
    scorer = load_artefact(path, metadata, options)
    return TableRunner(
        UserCode(name, str(folder)),
        metadata,
        describe=f"{path.name}, the folder's only artefact: {scorer.describe}",
        model=scorer.model,
        scorer=scorer,
    )


def _check_target_type(folder: Path, metadata: Metadata) -> None:
    target_type = metadata.target.type
    if target_type is not None and target_type not in SERVED_TARGET_TYPES:
        raise ConfigError(
            f"{folder}: targetType {target_type} is not served yet; this version serves "
            f"{', '.join(SERVED_TARGET_TYPES)}"
        )


class _FolderCode:
    """A folder with a `custom.py`, on its way to a runner."""

    def __init__(self, folder: Path, name: str, metadata: Metadata, options: LoadOptions) -> None:
        self._folder = folder
        self._place = str(folder / CODE_FILE)
        self._metadata = metadata
        self._options = options
        self._modules = FolderModules(folder, name)
        self._code = UserCode(name, self._place, folder)

    def runner(self) -> Runner:
        try:
            with self._modules.plain_names():
                return self._built()
        except BaseException:
            self._code.close()
            self._modules.close()
            raise

    def _built(self) -> Runner:
        module = self._code.prepare("the import", self._modules.load, Path(CODE_FILE).stem)
        hooks = find_hooks(module, self._place)
        if hooks.init is not None:
            self._code.prepare("init", hooks.init, str(self._folder))
        if hooks.served_class is not None:
            function = _function_of(hooks.served_class, self._code, self._place)
            return self._function_runner(
                function, f"{self._place}: {hooks.served_class.__name__}.predict", {}
            )
        if hooks.predict is not None:
            bound = self._bound(hooks, hooks.predict)
            return self._function_runner(hooks.predict, "predict", bound)
        return self._table_runner(hooks)

    def _function_runner(self, function: Callable[..., Any], what: str, bound: dict[str, Any]) -> Runner:
        return FunctionRunner(
            function,
            self._code,
            place=f"{self._place}: {what}",
            describe=f"{CODE_FILE}: {what}",
            metadata=self._metadata,
            bound=bound,
            close=self._modules.close,
        )

    def _bound(self, hooks: Hooks, predict: Callable[..., Any]) -> dict[str, Any]:
        """A `predict(model, …)` gets the model; one without that parameter has it by its own means."""
        wants_model = MODEL_PARAMETER in inspect.signature(predict).parameters
        if hooks.load_model is not None:
            model = self._loaded(hooks.load_model)
            return {MODEL_PARAMETER: model} if wants_model else {}
        return {MODEL_PARAMETER: self._artefact().model} if wants_model else {}

    def _table_runner(self, hooks: Hooks) -> Runner:
        if hooks.of_tables:
            require_pandas(f"{self._place}: a hook that works on data frames")
        scorer: Scorer | None = None
        if hooks.load_model is not None:
            model = self._loaded(hooks.load_model)
            if hooks.score is None:
                scorer = scorer_of(model, self._metadata.target, f"{self._place}: load_model")
                if scorer is None:
                    raise ConfigError(
                        f"{self._place}: load_model returns a {type(model).__name__}, which is not a model "
                        "that is known here; define score(data, model, **kwargs)"
                    )
        else:
            scorer = self._artefact()
            model = scorer.model
        by = "score" if hooks.score else scorer.describe if scorer else ""
        chosen = [one for one in ("transform", "post_process") if getattr(hooks, one)]
        return TableRunner(
            self._code,
            self._metadata,
            describe=f"{CODE_FILE}: {by}{' with ' + ' and '.join(chosen) if chosen else ''}",
            model=model,
            scorer=None if hooks.score else scorer,
            hooks=hooks,
            close=self._modules.close,
        )

    def _loaded(self, load_model: Callable[..., Any]) -> Any:
        model = self._code.prepare("load_model", load_model, str(self._folder))
        if model is None:
            raise ConfigError(f"{self._place}: load_model returned None; it must return the model")
        return model

    def _artefact(self) -> Scorer:
        return load_artefact(find_artefact(self._folder), self._metadata, self._options)


def _function_of(value: Any, code: UserCode, place: str) -> Callable[..., Any]:
    """The function that answers: `value` itself, or `predict` of what it is or makes."""
    if isinstance(value, type):
        if not callable(getattr(value, "predict", None)):
            raise ConfigError(f"{place}: class {value.__name__} has no method predict")
        value = code.prepare(f"{value.__name__}()", value)
        setup = getattr(value, "setup", None)
        if callable(setup):
            code.prepare("setup", setup)
    predict = getattr(value, "predict", None)
    if callable(predict):
        return predict  # type: ignore[no-any-return]
    if not callable(value):
        raise ConfigError(f"{place}: is a {type(value).__name__}; serve a function or a class with predict")
    return value  # type: ignore[no-any-return]
