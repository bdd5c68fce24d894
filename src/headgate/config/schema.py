"""Every setting there is, as frozen models. `headgate.config.load` fills them and words the errors.

Backends have options of their own: they subclass `TargetSettings`, and loading is told which class
belongs to which backend name. Outsiders do the same through entry points.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
)

from headgate.config.quantities import Duration, Share, Size, parse_duration
from headgate.core.backend import Timeouts
from headgate.core.call import Need

LogFormat: TypeAlias = Literal["auto", "text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


def beside_config(path: Path, info: ValidationInfo) -> Path:
    """`path` made absolute: a relative one is relative to the configuration file, `~` is the home folder."""
    base: Path = (info.context or {}).get("base_dir") or Path()
    return (base / path.expanduser()).absolute()


ConfigPath = Annotated[Path, AfterValidator(beside_config)]
"""A path in the configuration. Backends use it for their own options (`ca_file`, `folder`)."""


def weights_beside_config(reference: str, info: ValidationInfo) -> str:
    """`reference` with a path in it made absolute; catalog names, URLs and `hf:` stay as they are."""
    is_path = "/" in reference or reference.endswith((".gguf", ".onnx"))
    if not is_path or re.match(r"[a-z][a-z0-9+.-]+:", reference):
        return reference
    return str(beside_config(Path(reference), info))


WeightsReference = Annotated[str, AfterValidator(weights_beside_config)]
"""Where weights are: `catalog:NAME`, `hf:…`, a URL, or a path relative to the configuration file."""


class SettingsModel(BaseModel):
    """What all settings have in common: frozen, and an unknown name is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes `true` for 1; a person who writes `port: true` does not mean port 1."""
        annotation = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and annotation in (int, float, int | None, float | None):
            raise ValueError("must be a number, not true or false")
        return value


class KeySettings(SettingsModel):
    """One key that callers may use. `headgate key NAME` makes a key and this entry for it."""

    name: str = Field(min_length=1, max_length=100, description="Who holds the key; appears in logs.")
    hash: str = Field(description="`sha256:` and the 64 hex digits of the key's SHA-256.")
    admin: bool = Field(default=False, description="May use `/admin/…`: drain targets, reload.")

    @field_validator("hash")
    @classmethod
    def _is_sha256(cls, value: str) -> str:
        scheme, _, digest = value.partition(":")
        if scheme != "sha256" or len(digest) != 64 or not set(digest.lower()) <= set("0123456789abcdef"):
            raise ValueError('must be "sha256:" and 64 hex digits; `headgate key` makes a key and its hash')
        return f"sha256:{digest.lower()}"

    @field_validator("name")
    @classmethod
    def _is_printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must hold no control characters: it is written to logs")
        return value


class ServerSettings(SettingsModel):
    """The HTTP side. Every plain value here can be overridden by `HEADGATE_<NAME>` in the environment."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    keys: tuple[KeySettings, ...] = Field(
        default=(), description="Keys that callers must use one of; none: open."
    )
    allow_no_keys: bool = Field(default=False, description="Listen beyond this machine without any key.")
    max_body: Size = Field(default=100_000_000, description="Largest request body.")
    max_in_flight: int = Field(
        default=10_000, ge=1, description="Requests under way at once; above it, 503 with Retry-After."
    )
    max_memory: Size | None = Field(
        default=None, description="Resident memory above which new requests get 503; no limit when left out."
    )
    grace: Duration = Field(
        default=30.0, description="How long requests under way may take to end on a stop."
    )
    state: ConfigPath | None = Field(
        default=None, description="SQLite file for what must survive a restart; memory when left out."
    )
    keep_responses: Duration = Field(
        default=3600.0, description="How long the Responses API keeps answers; 30 days at most."
    )
    log_format: LogFormat = Field(default="auto", description="`auto`: text on a terminal, JSON otherwise.")
    log_level: LogLevel = Field(default="info", description="Least severe message that is logged.")
    access_log: bool = Field(default=True, description="One line for each request.")

    @field_validator("keys")
    @classmethod
    def _differ(cls, keys: tuple[KeySettings, ...]) -> tuple[KeySettings, ...]:
        names: dict[str, str] = {}
        for key in keys:
            if key.hash in names:
                raise ValueError(f'"{names[key.hash]}" and "{key.name}" are the same key; remove one')
            names[key.hash] = key.name
        return keys


class TimeoutSettings(SettingsModel):
    """How long to wait. What is left out comes from the model, then from the default."""

    connect: Duration | None = Field(default=None, description="For a connection to the upstream.")
    first_event: Duration | None = Field(default=None, description="From sending to the answer's first byte.")
    idle: Duration | None = Field(default=None, description="Between two pieces of an answer.")
    total: Duration | None = Field(
        default=None, description="For the whole call, queueing and retries included."
    )

    def over(self, base: Timeouts) -> Timeouts:
        """`base` with what is set here in its place."""
        return replace(base, **self.model_dump(exclude_none=True))


class RetrySettings(SettingsModel):
    """Further tries, made only before the first byte of an answer has gone to the caller."""

    attempts: int | None = Field(
        default=None,
        ge=1,
        le=10,
        description="Tries in all, the first one included; left out: one for each target, 2 to 5.",
    )
    budget: Share = Field(
        default=0.2,
        description="Second tries at the same target, as a share of the calls: an outage is not multiplied.",
    )
    max_wait: Duration = Field(
        default=5.0, description="Longest wait for a quota that is spent; beyond it, 429 at once."
    )


class HedgeSettings(SettingsModel):
    """A second attempt beside one that is slow; the first of the two to answer is taken."""

    after: Duration | Literal["p95"] = Field(
        default="p95",
        description="Time without a first event; `p95`: as slow as one in twenty of the latest answers.",
    )
    budget: Share = Field(default=0.05, description="Second attempts, as a share of the calls.")

    @field_validator("after", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value == "p95":
            return value
        try:
            return parse_duration(value)
        except ValueError:
            raise ValueError("must be `p95`, or a duration like 800ms") from None


class HoldBackSettings(SettingsModel):
    """A stream is held until it has proved itself; until then it can move to another target."""

    characters: int = Field(default=200, ge=1, le=20_000, description="Of the answer, before it goes out.")
    time: Duration = Field(
        default=1.0,
        description="From its first event; a stream that is slower moves on, if another target is free.",
    )


class BreakerSettings(SettingsModel):
    """When a target is left alone for a while, and how it comes back."""

    failures: int = Field(
        default=5, ge=0, le=1000, description="Failures in a row that open a target's circuit; 0: never."
    )
    rate: Share = Field(default=0.5, description="Share of failures among the latest 20 calls that opens it.")
    cooldown: Duration = Field(
        default=5.0, description="Until the first probe; doubles with each probe that fails."
    )
    longest: Duration = Field(default=60.0, description="Longest time between two probes.")
    slow_start: Duration = Field(
        default=10.0, description="Over which a target that is back gets its whole share again."
    )


class ProbeSettings(SettingsModel):
    """Requests of our own that find out whether a target is well."""

    every: Duration = Field(default=30.0, description="Time between two probes.")
    path: str | None = Field(
        default=None,
        pattern=r"^/[!-~]*$",
        description="Path to GET, from the root of the target's address; its list of models when left out.",
    )
    timeout: Duration = Field(default=5.0, description="For the answer; any below 500 will do.")


class ResumeSettings(SettingsModel):
    """Streams that go on where the connection broke off."""

    keep: Duration = Field(default=300.0, description="How long a finished stream can be read again.")
    grace: Duration = Field(
        default=60.0, description="How long the answer is generated on while nobody listens."
    )
    buffer: Size = Field(default=4_000_000, description="How much of one stream is held.")


class TargetSettings(SettingsModel):
    """One way of answering for a model. Backends subclass it and add their own options.

    Args:
        backend: name of the backend, a row of the registry.
        model: the upstream's name for the model; None: the public name.
        weight: share of the traffic among targets of the same priority.
        priority: 1 is tried first; higher numbers only when all lower ones can't answer.
    """

    backend: str = Field(description="Which backend answers.")
    model: str | None = Field(
        default=None,
        min_length=1,
        description="The upstream's name for the model; the public name when left out.",
    )
    weight: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Share of the traffic among targets of one priority.",
    )
    priority: int = Field(
        default=1, ge=1, description="1 is tried first; higher ones when lower ones can't answer."
    )
    max_concurrency: int | None = Field(
        default=None, ge=1, description="Requests at this target at once; no limit when left out."
    )
    max_queue: int = Field(
        default=100, ge=0, description="Requests that may wait for `max_concurrency`; above it, 503."
    )
    timeouts: TimeoutSettings | None = Field(default=None, description="This target's own, over the model's.")
    lacks: tuple[Need, ...] = Field(
        default=(), description="What it can't take; calls that need it go to other targets."
    )
    context_length: int | None = Field(
        default=None, ge=1, description="Tokens of its context; longer prompts, by estimate, go elsewhere."
    )
    quota: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Name of the quota it draws on; left out: that of its address, key and model.",
    )
    probe: ProbeSettings | None = Field(default=None, description="Ask it regularly whether it is well.")


class ModelSettings(SettingsModel):
    """One public model. However it was written, `targets` holds every way to answer for it."""

    targets: tuple[SerializeAsAny[TargetSettings], ...] = Field(
        min_length=1, description="Several ways to answer, in place of one written inline."
    )
    timeouts: TimeoutSettings = Field(
        default=TimeoutSettings(), description="How long to wait for an answer."
    )
    retry: RetrySettings = Field(default=RetrySettings(), description="Further tries before the first byte.")
    balance: Literal["weight", "least_in_flight", "latency"] = Field(
        default="weight", description="How the targets of one priority share the calls."
    )
    affinity: str | None = Field(
        default=None,
        description="Calls that have this in common go to one target: `user`, `prompt` or `header:NAME`.",
    )
    fallbacks: tuple[str, ...] = Field(
        default=(), description="Models whose targets are tried after this one's, in this order."
    )
    hedge: HedgeSettings | None = Field(default=None, description="A second attempt beside a slow one.")
    hold_back: HoldBackSettings | None = Field(
        default=None, description="Hold a stream until it has proved itself."
    )
    breaker: BreakerSettings = Field(
        default=BreakerSettings(), description="When a target is left alone for a while."
    )
    resumable: ResumeSettings | None = Field(
        default=None, description="Streams that go on where the connection broke off; `true` is enough."
    )
    max_in_flight: int | None = Field(
        default=None, ge=1, description="Calls of this model at once; no limit when left out."
    )
    max_waiting: int = Field(
        default=100, ge=0, description="Calls that may wait for `max_in_flight`, and as many for a quota."
    )
    strict: bool = Field(
        default=False,
        description="Refuse a request field that a target can't honour; otherwise report it as lost.",
    )
    owned_by: str | None = Field(default=None, description="Shown in `GET /v1/models`.")
    description: str | None = Field(
        default=None, description="Shown in the API page and in `headgate models`."
    )

    @field_validator("affinity")
    @classmethod
    def _belongs(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"user|prompt|header:[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
            raise ValueError("must be `user`, `prompt` or `header:NAME`")
        return value

    @field_validator("resumable", mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    def timeouts_of(self, target: TargetSettings) -> Timeouts:
        """Seconds to wait at `target`: its own over the model's over the defaults."""
        timeouts = self.timeouts.over(Timeouts())
        return target.timeouts.over(timeouts) if target.timeouts else timeouts


class Settings(SettingsModel):
    """A whole configuration.

    Args:
        aliases: other public names: alias to the name of a model. Chains have been followed.
        accounts: credentials and addresses that several targets share; each backend that takes an
            `account` checks its own. May hold secrets: not printed.
    """

    server: ServerSettings = Field(default=ServerSettings(), description="The HTTP side.")
    models: Mapping[str, ModelSettings] = Field(description="Public name to how it is answered.")
    aliases: Mapping[str, str] = Field(default={}, description="Other names for models.")
    accounts: Mapping[str, Mapping[str, Any]] = Field(
        default={}, repr=False, description="Credentials and addresses that several targets share."
    )
