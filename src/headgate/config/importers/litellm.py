"""LiteLLM's proxy configuration.

Source: LiteLLM's documentation, "Config.yaml" and "All settings": `model_list`, `router_settings`,
`litellm_settings`, `general_settings`, `environment_variables`, `include`. Entries of `model_list` with
one name are one model with several targets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any

from headgate.config.importers.imported import Imported
from headgate.core.errors import ConfigError

_BACKENDS = {
    "anthropic": "anthropic",
    "azure": "azure-openai",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "custom_openai": "openai-compatible",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "gemini": "gemini",
    "groq": "groq",
    "hosted_vllm": "vllm",
    "jina_ai": "jina",
    "litellm_proxy": "openai-compatible",
    "llamafile": "openai-compatible",
    "lm_studio": "lm-studio",
    "mistral": "mistral",
    "nvidia_nim": "nvidia-nim",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "openai": "openai",
    "openai_like": "openai-compatible",
    "openrouter": "openrouter",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "vertex",
    "vertex_ai_beta": "vertex",
    "vllm": "vllm",
    "xai": "xai",
}
_BARE_NAMES = (
    (re.compile(r"(gpt-|chatgpt-|o\d|text-embedding-|davinci|babbage)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"(command-|embed-|rerank-)"), "cohere"),
)
"""Model names without a provider, as LiteLLM resolves them."""
_NEEDS_ADDRESS = frozenset({"openai-compatible", "azure-openai"})
_ROOT_ADDRESS = frozenset({"ollama", "lm-studio", "vllm"})
"""Servers whose address LiteLLM may be given without the version that their OpenAI routes begin with."""

_STRATEGIES = {
    "simple-shuffle": "weight",
    "least-busy": "least_in_flight",
    "latency-based-routing": "latency",
}
_OF_TARGET: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "api_version": ("api_version", str),
    "tenant_id": ("tenant_id", str),
    "client_id": ("client_id", str),
    "client_secret": ("client_secret", str),
    "vertex_project": ("project", str),
    "vertex_location": ("location", str),
    "vertex_credentials": ("key_file", str),
    "aws_region_name": ("region", str),
    "aws_profile_name": ("profile", str),
    "aws_access_key_id": ("access_key", str),
    "aws_secret_access_key": ("secret_key", str),
    "aws_session_token": ("session_token", str),
    "weight": ("weight", lambda value: _share(value)),
    "order": ("priority", int),
    "max_parallel_requests": ("max_concurrency", int),
}
_READ = frozenset({"model", "custom_llm_provider", "api_base", "base_url", "api_key", "extra_headers"})
_OF_MODEL = frozenset({"timeout", "stream_timeout", "max_retries", "rpm", "tpm", "drop_params"})
_ABILITIES = {
    "supports_vision": "images",
    "supports_function_calling": "tools",
    "supports_pdf_input": "files",
    "supports_audio_input": "audio",
    "supports_response_schema": "structured_output",
}
_NO_MATTER = frozenset({"set_verbose", "json_logs", "drop_params", "num_retries", "request_timeout"})
"""Of `litellm_settings`: read elsewhere here, or about LiteLLM's own log."""


def read_litellm(content: Any, environ: Mapping[str, str]) -> Imported:
    """Our configuration for LiteLLM's.

    Args:
        content: the file as plain data.
        environ: where the master key is looked up when the file only names its variable.

    Raises ConfigError where `content` is no configuration of LiteLLM's.
    """
    if not isinstance(content, dict) or not isinstance(content.get("model_list"), list):
        raise ConfigError("this is no configuration of LiteLLM's proxy: it has no list under model_list")
    return _Reading(content, environ).run()


class _Reading:
    def __init__(self, content: dict[str, Any], environ: Mapping[str, str]) -> None:
        self._content = content
        self._environ = environ
        self._out = Imported()
        self._router = self._section("router_settings")
        self._library = self._section("litellm_settings")
        self._models: dict[str, dict[str, Any]] = {}

    def run(self) -> Imported:
        for index, entry in enumerate(self._content["model_list"]):
            self._entry(entry, f"model_list[{index}]")
        if not self._models:
            raise ConfigError("no entry of model_list has an equivalent here: " + self._first_notes())
        self._shared()
        self._fallbacks()
        self._allow_fallbacks()
        self._server()
        self._out.content["models"] = {name: _inline(model) for name, model in self._models.items()}
        self._aliases()
        self._strays()
        return self._out

    def _first_notes(self) -> str:
        return "; ".join(f"{note.path}: {note.message}" for note in self._out.notes[:5]) or "it is empty"

    def _section(self, name: str) -> dict[str, Any]:
        found = self._content.get(name)
        return found if isinstance(found, dict) else {}

    # Models and targets.

    def _entry(self, entry: Any, path: str) -> None:
        name = entry.get("model_name") if isinstance(entry, dict) else None
        params = entry.get("litellm_params") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(params, dict) or not params.get("model"):
            self._out.note(path, "has no model_name, or no litellm_params with a model; left out")
            return
        if "*" in name or "*" in str(params["model"]):
            self._out.note(path, "wildcards have no equivalent: declare each model that clients may ask for")
            return
        target = self._target(params, f"{path}.litellm_params")
        if target is None:
            return
        info = entry.get("model_info")
        self._abilities(target, info if isinstance(info, dict) else {}, f"{path}.model_info")
        model = self._models.setdefault(name, {"targets": []})
        self._model_settings(model, target, {**entry, **params}, f"{path}.litellm_params")
        model["targets"].append(target)

    def _target(self, params: dict[str, Any], path: str) -> dict[str, Any] | None:
        said = str(params["model"])
        provider, upstream = self._provider(said, params.get("custom_llm_provider"))
        backend = _BACKENDS.get(provider or "")
        if backend is None:
            what = provider or said
            self._out.note(
                f"{path}.model", f"no backend for {what!r} here; left out. Is it OpenAI-compatible?"
            )
            return None
        address = params.get("api_base") or params.get("base_url")
        if backend == "openai" and address:
            backend = "openai-compatible"
        if backend in _NEEDS_ADDRESS and not address:
            self._out.note(f"{path}.api_base", f"{backend} needs an address; left out")
            return None
        target: dict[str, Any] = {"backend": backend}
        if address:
            target["base_url"] = self._address(str(address), backend)
        target["model"] = upstream
        if params.get("api_key"):
            target["api_key"] = self._secret(params["api_key"], f"{path}.api_key")
        self._options(target, params, path)
        return target

    def _provider(self, said: str, told: Any) -> tuple[str | None, str]:
        """LiteLLM's name of the provider, and the provider's name of the model."""
        if isinstance(told, str) and told:
            return told, said.removeprefix(f"{told}/")
        prefix, slash, rest = said.partition("/")
        if slash and prefix in _BACKENDS:
            if prefix == "bedrock":
                rest = re.sub(r"^(converse|invoke)/", "", rest)
            return prefix, rest
        if slash:
            return prefix, rest
        return next((name for pattern, name in _BARE_NAMES if pattern.match(said)), None), said

    def _address(self, said: str, backend: str) -> str:
        url = self._reference(said).rstrip("/")
        if backend in _ROOT_ADDRESS and re.fullmatch(r"https?://[^/]+", url):
            url += "/v1"
        return url

    def _options(self, target: dict[str, Any], params: dict[str, Any], path: str) -> None:
        for name, value in params.items():
            if name in _READ or name in _OF_MODEL or value is None:
                continue
            if name in _OF_TARGET:
                ours, kind = _OF_TARGET[name]
                try:
                    target[ours] = self._reference(kind(value)) if kind is str else kind(value)
                except (TypeError, ValueError, OverflowError):
                    self._out.note(f"{path}.{name}", "is no number that fits here; left out")
            else:
                self._out.note(f"{path}.{name}", "has no equivalent; left out")
        headers = params.get("extra_headers")
        if isinstance(headers, dict):
            target["headers"] = {str(key): self._reference(str(value)) for key, value in headers.items()}
        if target["backend"] == "bedrock" and "region" not in target:
            target["region"] = "${AWS_REGION}"
            self._out.note(f"{path}.aws_region_name", "not said; ${AWS_REGION} is asked for instead")
        if target["backend"] == "vertex" and "project" not in target:
            target["project"] = "${GOOGLE_CLOUD_PROJECT}"
            self._out.note(f"{path}.vertex_project", "not said; ${GOOGLE_CLOUD_PROJECT} is asked for instead")

    def _abilities(self, target: dict[str, Any], info: dict[str, Any], path: str) -> None:
        lacks = [ours for theirs, ours in _ABILITIES.items() if info.get(theirs) is False]
        if lacks:
            target["lacks"] = lacks
        length = info.get("max_input_tokens")
        if isinstance(length, int) and length > 0:
            target["context_length"] = length
        for name in ("input_cost_per_token", "output_cost_per_token", "access_groups", "team_id"):
            if name in info:
                self._out.note(f"{path}.{name}", "has no equivalent; left out")

    def _model_settings(
        self, model: dict[str, Any], target: dict[str, Any], said: dict[str, Any], path: str
    ) -> None:
        timeouts = {}
        if (total := _positive(said.get("timeout"))) is not None:
            timeouts["total"] = total
        if (first := _positive(said.get("stream_timeout"))) is not None:
            timeouts["first_event"] = first
        if timeouts:
            target["timeouts"] = timeouts
        if isinstance(said.get("max_retries"), int):
            model["retry"] = {"attempts": max(1, min(10, said["max_retries"] + 1))}
        for name in ("rpm", "tpm"):
            if (share := _positive(said.get(name))) is not None:
                target.setdefault("weight", share)
                self._out.note(
                    f"{path}.{name}",
                    "is taken as the target's weight; it is not a limit here: the upstream's own 429 is",
                )
                break

    # What the whole file says.

    def _shared(self) -> None:
        strategy = self._router.get("routing_strategy", "simple-shuffle")
        balance = _STRATEGIES.get(str(strategy))
        if balance is None:
            self._out.note(
                "router_settings.routing_strategy", f"{strategy!r} has no equivalent; by weight here"
            )
        retries = self._router.get("num_retries", self._library.get("num_retries"))
        timeout = _positive(self._router.get("timeout", self._library.get("request_timeout")))
        fails, cooldown = self._router.get("allowed_fails"), _positive(self._router.get("cooldown_time"))
        for model in self._models.values():
            if balance not in (None, "weight") and len(model["targets"]) > 1:
                model["balance"] = balance
            if isinstance(retries, int):
                model.setdefault("retry", {"attempts": max(1, min(10, retries + 1))})
            if timeout is not None:
                model["timeouts"] = {"total": timeout}
            breaker: dict[str, Any] = {}
            if isinstance(fails, int) and fails >= 0:
                breaker["failures"] = fails + 1
            if cooldown:
                breaker["cooldown"] = cooldown
            if breaker:
                model["breaker"] = breaker

    def _fallbacks(self) -> None:
        for section, settings in (("router_settings", self._router), ("litellm_settings", self._library)):
            for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
                for name, others in _pairs(settings.get(kind)):
                    self._fall_back(name, others, f"{section}.{kind}")
                if settings.get(kind) and kind != "fallbacks":
                    self._out.note(f"{section}.{kind}", "are taken as fallbacks for whatever reason")
            defaults = settings.get("default_fallbacks")
            if isinstance(defaults, list):
                for name in self._models:
                    others = [other for other in defaults if other != name]
                    self._fall_back(name, others, f"{section}.default_fallbacks")

    def _fall_back(self, name: str, others: Iterable[Any], path: str) -> None:
        if name not in self._models:
            self._out.note(path, f"is about {name!r}, which is not in the result; left out")
            return
        known = self._models[name].setdefault("fallbacks", [])
        for other in others:
            if other not in self._models:
                self._out.note(path, f"names {other!r}, which is not in the result; left out")
            elif other not in known:
                known.append(other)
        if not known:
            del self._models[name]["fallbacks"]

    def _allow_fallbacks(self) -> None:
        """Retries are counted over all targets here, fallbacks included: there must be enough for each."""
        for model in self._models.values():
            others = [
                target for name in model.get("fallbacks", ()) for target in self._models[name]["targets"]
            ]
            least = min(10, len(model["targets"]) + len(others))
            if "retry" in model and model["retry"]["attempts"] < least and others:
                model["retry"] = {"attempts": least}

    def _aliases(self) -> None:
        said = self._router.get("model_group_alias")
        aliases = {}
        for alias, model in (said if isinstance(said, dict) else {}).items():
            path = f"router_settings.model_group_alias.{alias}"
            name = model.get("model") if isinstance(model, dict) else model
            if name not in self._models:
                self._out.note(path, f"names {name!r}, which is not in the result; left out")
            elif alias in self._models:
                self._out.note(path, "is the name of a model too; left out")
            else:
                aliases[str(alias)] = name
                if isinstance(model, dict) and model.get("hidden"):
                    self._out.note(
                        path, "hidden aliases have no equivalent; it is shown in the list of models"
                    )
        if aliases:
            self._out.content["aliases"] = aliases

    def _server(self) -> None:
        general = self._section("general_settings")
        if (key := general.get("master_key")) is not None:
            path = "general_settings.master_key"
            name = str(key).removeprefix("os.environ/")
            secret = self._environ.get(name) if str(key).startswith("os.environ/") else str(key)
            if secret:
                digest = f"sha256:{sha256(secret.encode()).hexdigest()}"
                self._out.content["server"] = {"keys": [{"name": "master", "hash": digest, "admin": True}]}
            else:
                self._out.note(path, f"{name} is not set here: make a key with `headgate key master`")
        for name in general:
            if name != "master_key":
                self._out.note(f"general_settings.{name}", "has no equivalent; left out")

    def _strays(self) -> None:
        known = {
            *("fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "default_fallbacks"),
            *("routing_strategy", "num_retries", "timeout", "allowed_fails", "cooldown_time"),
            "model_group_alias",
        }
        for name in self._router:
            if name not in known:
                self._out.note(f"router_settings.{name}", "has no equivalent; left out")
        for name in self._library:
            if name not in known and name not in _NO_MATTER:
                self._out.note(f"litellm_settings.{name}", "has no equivalent; left out")
        if self._library.get("drop_params") is False:
            self._out.note(
                "litellm_settings.drop_params",
                "false refuses what a model can't take: `strict: true` does that here, per model",
            )
        sections = {"model_list", "router_settings", "litellm_settings", "general_settings"}
        for name in self._content:
            if name == "environment_variables":
                self._out.note(name, "set them in the environment of the server")
            elif name not in sections:
                self._out.note(name, "has no equivalent; left out")

    # Values.

    def _reference(self, value: str) -> str:
        """`os.environ/NAME` as ours; a dollar sign of its own stays one."""
        if value.startswith("os.environ/"):
            return f"${{{value.removeprefix('os.environ/')}}}"
        return value.replace("$", "$$")

    def _secret(self, value: Any, path: str) -> str:
        text = str(value)
        if not text.startswith("os.environ/") and len(text) > 8:
            self._out.note(path, "a secret stands in the file; better: ${NAME} or ${file:/run/secrets/name}")
        return self._reference(text)


def _inline(model: dict[str, Any]) -> dict[str, Any]:
    """A model with one target as people write it: without a list."""
    targets = model["targets"]
    if len(targets) > 1:
        return model
    shared = {name: value for name, value in model.items() if name != "targets"}
    if "timeouts" in shared and "timeouts" in targets[0]:
        shared["timeouts"] = {**shared["timeouts"], **targets[0]["timeouts"]}
    return {**targets[0], **shared}


def _pairs(said: Any) -> Iterable[tuple[str, list[Any]]]:
    """`[{a: [b, c]}, …]` as pairs."""
    for entry in said if isinstance(said, list) else ():
        if isinstance(entry, dict):
            for name, others in entry.items():
                yield str(name), others if isinstance(others, list) else [others]


def _share(value: Any) -> float:
    """A weight. Raises ValueError: 0, which takes a target out of the draw there, is none here."""
    found = _positive(value)
    if found is None:
        raise ValueError("not above zero")
    return found


def _positive(value: Any) -> float | None:
    """`value` if it is a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return float(value)
