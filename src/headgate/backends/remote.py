"""A remote API, spoken to in its own dialect over pooled connections.

What differs between vendors by configuration only is a `Preset`, a row of data in
`headgate.backends.presets`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from urllib.parse import quote

from pydantic import Field, SecretStr

from headgate.backends.probe import knock
from headgate.backends.registry import BackendType, BuildContext
from headgate.config.schema import ConfigPath, TargetSettings
from headgate.core.backend import (
    Archive,
    Backend,
    Exchange,
    Kept,
    RawHeaders,
    Receiver,
    Status,
    Timeouts,
    Wire,
)
from headgate.core.call import Operation
from headgate.core.errors import ConfigError
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest, RerankRequest
from headgate.dialects.dialect import ChatDialect, Dialect
from headgate.dialects.registry import dialect as find_dialect
from headgate.upstream.credentials import Credentials
from headgate.upstream.heads import complete_head, request_head
from headgate.upstream.http import Pool
from headgate.upstream.origin import Origin, environment_proxy, parse_base_url, parse_proxy

_VERSION = re.compile(r"v\d+[a-z0-9]*")

EncodeRequest: TypeAlias = Callable[..., tuple[bytes, list[Loss]]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way in which an upstream performs an operation.

    Args:
        dialect: name in `headgate.dialects.registry`.
        path: follows the base URL, in place of the dialect's own path; `{model}` stands for the upstream's
            name of the model, URL-quoted, `{verb}` for what follows the colon in the dialect's own path.
        encoding: keywords for the dialect's `encode_request`: the vendor's quirks, as data.
        usage_when_asked: the upstream takes its dialect's wish for usage in a stream.
        anywhere: it is there at any `base_url`; otherwise only at the vendor's own address, and where the
            target's `dialects` name it.
        keeps: what it keeps of its answers; at another `base_url` than the vendor's the operator says so.
    """

    dialect: str
    path: str | None = None
    encoding: Mapping[str, Any] = field(default_factory=dict)
    usage_when_asked: bool = True
    anywhere: bool = True
    keeps: frozenset[Kept] = frozenset()


@dataclass(frozen=True, slots=True)
class Preset:
    """A vendor as data.

    Args:
        name: what `backend:` says; also the provider's name in metrics.
        base_url: the vendor's own address; None where the operator must give one.
        key_env: environment variable that holds the key for the vendor's own address. It is never sent
            to another `base_url`: there the operator says `api_key` himself.
        auth_header, auth_scheme: how a key travels.
        settings: class of the target's settings, where the vendor takes more than an address and a key.
        credentials: makes what signs requests, where a fixed header is not enough; None from it: use the key.
        address: the base URL from the settings, where the vendor's depends on them; None from it: `base_url`.
        variables: from the settings, what stands in braces in the endpoints' paths besides `{model}`.
        version: path that follows the base URL, unless that ends in a version already (`/v1`, `/v1beta`).
        endpoints: for each operation the dialects that the vendor speaks, the one to translate into first.
    """

    name: str
    endpoints: Mapping[Operation, tuple[Endpoint, ...]]
    base_url: str | None = None
    key_env: str | None = None
    version: str = ""
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)
    settings: type[RemoteSettings] | None = None
    credentials: Callable[[Any], Credentials | None] | None = None
    address: Callable[[Any], str | None] | None = None
    variables: Callable[[Any], Mapping[str, str]] | None = None


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
    dialects: tuple[str, ...] = Field(
        default=(),
        description="Dialects that this `base_url` speaks besides the usual one, like `openai_responses`.",
    )
    native_state: tuple[Kept, ...] | None = Field(
        default=None,
        description="What of the Responses API the upstream keeps itself: `store`, `background`,"
        " `conversation`; `[]`: Headgate keeps all. Left out: as the vendor does at its own address.",
    )
    stream_usage: bool | None = Field(
        default=None,
        description="Ask for usage in streams where the caller did not; `false` where that is refused.",
    )
    client_cert: ConfigPath | None = Field(default=None, description="PEM certificate for mutual TLS.")
    client_key: ConfigPath | None = Field(default=None, description="PEM key of `client_cert`.")


def remote(preset: Preset) -> BackendType:
    """The registry's row for a vendor."""

    def build(settings: TargetSettings, context: BuildContext) -> Backend:
        assert isinstance(settings, RemoteSettings)
        return RemoteBackend(preset, settings, context)

    return BackendType(preset.settings or RemoteSettings, build)


class RemoteBackend:
    """Performs operations at a remote API. Has only the raw lane: translation happens around it."""

    def __init__(self, preset: Preset, settings: RemoteSettings, context: BuildContext) -> None:
        address = preset.address(settings) if preset.address is not None else None
        base_url = settings.base_url or address or preset.base_url
        if base_url is None:
            raise ConfigError(
                f"models.{context.model}: backend {preset.name!r} needs base_url, like http://127.0.0.1:8000/v1"
            )
        host, port, tls, self._path = parse_base_url(base_url)
        if preset.version and not _VERSION.fullmatch(self._path.rpartition("/")[2]):
            self._path += preset.version
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
        self._preset = preset
        self._credentials = preset.credentials(settings) if preset.credentials is not None else None
        self._fields = _fixed_fields(preset, settings, context, origin, signed=self._credentials is not None)
        self._variables = preset.variables(settings) if preset.variables is not None else {}
        self._model = settings.model or context.model
        self._timeouts = context.timeouts
        self._stream_usage = settings.stream_usage
        self._dialects = settings.dialects
        self._native_state = settings.native_state
        self._at_vendor = settings.base_url is None
        self._pools = context.pools
        self._pool = context.pools.at(origin)  # last: what raised above has nothing to give back

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
        self._pools.leave(self._pool)

    async def probe(self, path: str | None) -> None:
        """GET `path`, or the list of models: any status below 500 will do."""
        target = path or f"{self._path}/models"
        origin = self._pool.origin
        fields = [field for field in self._fields if field[0] != b"content-type"]
        if self._credentials is not None:
            fields += await self._credentials.headers("GET", origin.authority, target, b"")
        await knock(self._pool, complete_head(_head("GET", target, origin, fields), [], 0), self._timeouts)

    def wire(self, operation: Operation, dialect: str) -> Wire | None:
        endpoints = self._endpoints(operation)
        if not endpoints:
            return None
        endpoint = next((each for each in endpoints if each.dialect == dialect), endpoints[0])
        if self._stream_usage is not None:
            endpoint = replace(endpoint, usage_when_asked=self._stream_usage)
        record = find_dialect(endpoint.dialect)
        plain, stream = (self._line(endpoint, record, stream) for stream in (False, True))
        return RemoteWire(
            record, self._model, self._timeouts, endpoint, self._pool, self._credentials, plain, stream
        )

    def archive(self, dialect: str) -> Archive | None:
        for endpoint in self._endpoints(Operation.CHAT):
            if endpoint.dialect == dialect:
                keeps = endpoint.keeps if endpoint.anywhere or self._at_vendor else frozenset()
                if self._native_state is not None:
                    keeps = frozenset(self._native_state)
                target = self._target(endpoint, find_dialect(dialect), stream=False)
                fields = tuple(field for field in self._fields if field[0] != b"content-type")
                return RemoteArchive(keeps, target, fields, self._timeouts, self._pool, self._credentials)
        return None

    def _endpoints(self, operation: Operation) -> list[Endpoint]:
        return [
            each
            for each in self._preset.endpoints.get(operation, ())
            if each.anywhere or self._at_vendor or each.dialect in self._dialects
        ]

    def _target(self, endpoint: Endpoint, record: Dialect, stream: bool) -> str:
        path = record.path(self._model, stream)
        if endpoint.path is not None:
            verb = path.rpartition(":")[2]
            path = endpoint.path.format(model=quote(self._model, safe=""), verb=verb, **self._variables)
        return f"{self._path}{path}"

    def _line(self, endpoint: Endpoint, record: Dialect, stream: bool) -> RequestLine:
        target = self._target(endpoint, record, stream)
        return RequestLine(target, _head("POST", target, self._pool.origin, self._asking(record, stream)))

    def _asking(self, record: Dialect, stream: bool) -> Sequence[tuple[bytes, bytes]]:
        """The fixed fields, and what the answer is to be; the operator may say otherwise."""
        if any(name == b"accept" for name, _ in self._fields):
            return self._fields
        kind = "application/json"
        if stream and isinstance(record, ChatDialect):
            framing, kind = next(iter(record.stream_types.items()))
            if framing == "sse":  # errors are JSON, and some servers refuse who wants none
                kind += ", application/json"
        return [*self._fields, (b"accept", kind.encode("ascii"))]


def _head(method: str, target: str, origin: Origin, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    sent = f"http://{origin.authority}{target}" if origin.forwards else target
    return request_head(method, sent, origin.authority, fields)


def _fixed_fields(
    preset: Preset, settings: RemoteSettings, context: BuildContext, origin: Origin, *, signed: bool
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
    if signed:
        key = None
    elif key is None and preset.key_env and settings.base_url is None:
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
class RequestLine:
    """Where a request goes: its target as the upstream sees it, and its ready-made head."""

    target: str
    head: bytes


@dataclass(frozen=True, slots=True)
class RemoteWire:
    """One operation's raw lane: everything of the request but its body is ready."""

    _dialect: Dialect
    model: str
    timeouts: Timeouts
    _endpoint: Endpoint
    _pool: Pool
    _credentials: Credentials | None
    _plain: RequestLine
    _stream: RequestLine

    @property
    def dialect(self) -> str:
        return self._endpoint.dialect

    @property
    def reports_usage_when_asked(self) -> bool:
        return self._endpoint.usage_when_asked

    @property
    def ready(self) -> bool:
        return self._credentials is None or self._credentials.ready()

    async def prepare(self) -> None:
        """Have credentials that last; connections are opened when they are needed. Raises Unavailable."""
        if self._credentials is not None:
            await self._credentials.headers("POST", self._pool.origin.authority, "/", b"")

    def encode(self, request: ChatRequest | EmbedRequest | RerankRequest) -> tuple[bytes, list[Loss]]:
        encode: EncodeRequest = self._dialect.encode_request  # type: ignore[attr-defined]
        return encode(request, model=self.model, **self._endpoint.encoding)

    def send(
        self,
        body: bytes,
        headers: RawHeaders,
        deadline: float | None,
        receiver: Receiver,
        *,
        stream: bool = False,
    ) -> Exchange:
        line = self._stream if stream else self._plain
        if self._credentials is not None:
            signed = self._credentials.sign("POST", self._pool.origin.authority, line.target, body)
            headers = [*headers, *signed]
        head = complete_head(line.head, headers, len(body))
        return self._pool.send(head, body, receiver, timeouts=self.timeouts, deadline=deadline)


@dataclass(frozen=True, slots=True)
class RemoteArchive:
    """Answers that an API keeps: asked for by id, beside the route that makes them."""

    keeps: frozenset[Kept]
    _target: str
    _fields: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    _timeouts: Timeouts
    _pool: Pool
    _credentials: Credentials | None

    @property
    def address(self) -> str:
        return f"{self._pool.origin}{self._target}"

    @property
    def account(self) -> object:
        """Where tokens expire the address alone tells accounts apart: it is a resource of one's own."""
        return self.address, None if self._credentials is not None else self._fields

    @property
    def ready(self) -> bool:
        return self._credentials is None or self._credentials.ready()

    async def prepare(self) -> None:
        if self._credentials is not None:
            await self._credentials.headers("GET", self._pool.origin.authority, "/", b"")

    def ask(
        self, method: str, path: str, query: str, headers: RawHeaders, deadline: float, receiver: Receiver
    ) -> Exchange:
        route, _, own = self._target.partition("?")
        queries = "&".join(filter(None, (own, query)))
        target = f"{route}{path}?{queries}" if queries else f"{route}{path}"
        origin = self._pool.origin
        if self._credentials is not None:
            headers = [*headers, *self._credentials.sign(method, origin.authority, target, b"")]
        head = complete_head(_head(method, target, origin, self._fields), headers, 0)
        return self._pool.send(head, b"", receiver, timeouts=self._timeouts, deadline=deadline)
