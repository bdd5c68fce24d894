"""A remote API, spoken to in its own dialect over pooled connections.

What differs between vendors by configuration only is a `Preset`, a row of data in
`headgate.backends.presets`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field, SecretStr

from headgate.backends.registry import BackendType, BuildContext
from headgate.config.schema import ConfigPath, TargetSettings
from headgate.core.backend import Backend, Exchange, RawHeaders, Receiver, Status, Timeouts, Wire
from headgate.core.call import Operation
from headgate.core.errors import ConfigError
from headgate.upstream.heads import complete_head, request_head
from headgate.upstream.http import Pool
from headgate.upstream.origin import Origin, environment_proxy, parse_base_url, parse_proxy


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and in which dialect one operation is performed; `path` follows the base URL."""

    path: str
    dialect: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A vendor as data.

    Args:
        name: what `backend:` says; also the provider's name in metrics.
        base_url: the vendor's own address; None where the operator must give one.
        key_env: environment variable that holds the key for the vendor's own address. It is never sent
            to another `base_url`: there the operator says `api_key` himself.
        auth_header, auth_scheme: how the key travels.
    """

    name: str
    endpoints: Mapping[Operation, Endpoint]
    base_url: str | None = None
    key_env: str | None = None
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)


class RemoteSettings(TargetSettings):
    """A target at a remote API."""

    base_url: str | None = Field(
        default=None, description="Address of the API, with its version path: `http://host:8000/v1`."
    )
    api_key: SecretStr | None = Field(
        default=None, description="Key for the upstream: `${VAR}` or `${file:/run/secrets/key}`."
    )
    headers: Mapping[str, SecretStr] = Field(
        default={}, description="Further header fields for each request."
    )
    proxy: SecretStr | None = Field(
        default=None,
        description="HTTP proxy, `http://[user:password@]host:port`; `none` ignores HTTP_PROXY and the like.",
    )
    ca_file: ConfigPath | None = Field(
        default=None,
        description="PEM file of the certificate authorities to trust, in place of the system's.",
    )
    client_cert: ConfigPath | None = Field(default=None, description="PEM certificate for mutual TLS.")
    client_key: ConfigPath | None = Field(default=None, description="PEM key of `client_cert`.")


def remote(preset: Preset) -> BackendType:
    """The registry's row for a vendor."""

    def build(settings: TargetSettings, context: BuildContext) -> Backend:
        assert isinstance(settings, RemoteSettings)
        return RemoteBackend(preset, settings, context)

    return BackendType(RemoteSettings, build)


class RemoteBackend:
    """Performs operations at a remote API. Has only the raw lane: translation happens around it."""

    def __init__(self, preset: Preset, settings: RemoteSettings, context: BuildContext) -> None:
        base_url = settings.base_url or preset.base_url
        if base_url is None:
            raise ConfigError(
                f"models.{context.model}: backend {preset.name!r} needs base_url, like http://127.0.0.1:8000/v1"
            )
        host, port, tls, self._path = parse_base_url(base_url)
        proxy = None
        if settings.proxy is None:
            proxy = environment_proxy(host, tls)
        elif (address := settings.proxy.get_secret_value()) != "none":
            proxy = parse_proxy(address)
        origin = Origin(
            host,
            port,
            tls,
            proxy=proxy,
            ca_file=settings.ca_file,
            client_cert=settings.client_cert,
            client_key=settings.client_key,
        )
        self._pool = context.pools.at(origin)
        self._preset = preset
        self._fields = _fixed_fields(preset, settings, context, origin)
        self._model = settings.model or context.model
        self._timeouts = context.timeouts

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset(self._preset.endpoints)

    @property
    def status(self) -> Status:
        return Status("ready")

    async def start(self) -> None:
        await self._pool.start()

    async def close(self) -> None:
        """The pool belongs to the server: other targets may use it."""

    def wire(self, operation: Operation) -> Wire | None:
        endpoint = self._preset.endpoints.get(operation)
        if endpoint is None:
            return None
        origin = self._pool.origin
        target = f"{self._path}{endpoint.path}"
        if origin.forwards:
            target = f"http://{origin.authority}{target}"
        prefix = request_head("POST", target, origin.authority, self._fields)
        return RemoteWire(endpoint.dialect, self._model, self._timeouts, self._pool, prefix)


def _fixed_fields(
    preset: Preset, settings: RemoteSettings, context: BuildContext, origin: Origin
) -> list[tuple[bytes, bytes]]:
    """The header fields that are the same for every request. Raises ConfigError."""
    fields = {
        "content-type": "application/json",
        # Compressed answers would have to be unpacked to read usage from them; the hop is short.
        "accept-encoding": "identity",
        "user-agent": "headgate",
        **preset.headers,
    }
    key = settings.api_key.get_secret_value() if settings.api_key is not None else None
    if key is None and preset.key_env and settings.base_url is None:
        key = os.environ.get(preset.key_env)
        if not key:
            raise ConfigError(
                f"models.{context.model}: backend {preset.name!r} needs a key:"
                f" set {preset.key_env} or api_key"
            )
    if key:
        fields[preset.auth_header] = preset.auth_scheme + key
    if origin.forwards and origin.proxy is not None and origin.proxy.authorization is not None:
        fields["proxy-authorization"] = origin.proxy.authorization.decode("ascii")
    for name, value in settings.headers.items():
        fields[name.lower()] = value.get_secret_value()
    try:
        pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
        request_head("POST", "/", origin.authority, pairs)
    except ValueError as error:
        raise ConfigError(f"models.{context.model}: a header field can't be sent: {error}") from None
    return pairs


@dataclass(frozen=True, slots=True)
class RemoteWire:
    """One operation's raw lane: everything of the request but its body is ready."""

    dialect: str
    model: str
    timeouts: Timeouts
    _pool: Pool
    _prefix: bytes

    @property
    def ready(self) -> bool:
        return True

    async def prepare(self) -> None:
        """Nothing to bring up: connections are opened when they are needed."""

    def send(self, body: bytes, headers: RawHeaders, deadline: float | None, receiver: Receiver) -> Exchange:
        head = complete_head(self._prefix, headers, len(body))
        return self._pool.send(head, body, receiver, timeouts=self.timeouts, deadline=deadline)
