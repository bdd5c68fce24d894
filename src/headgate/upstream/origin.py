"""Where an upstream is and how to open a connection to it: TCP, TLS, a Unix socket, through a proxy."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from typing_extensions import override

from headgate.core.errors import ConfigError, ConnectFailed


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: CONNECT (RFC 9110 9.3.6) for TLS origins, absolute-form targets for plain ones."""

    host: str
    port: int
    authorization: bytes | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of an upstream, or the path of its Unix socket.

    `ca_file` replaces the system's certificate authorities; `client_cert` and `client_key` serve mutual TLS.
    """

    host: str
    port: int
    tls: bool = False
    uds: str | None = None
    proxy: Proxy | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    @override
    def __str__(self) -> str:
        if self.uds is not None:
            return "the local engine"
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of the Host field: the port is left out where it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def way(self) -> str:
        """Where a connection goes and through what, for messages."""
        through = "" if self.proxy is None else f" through the proxy {self.proxy.host}:{self.proxy.port}"
        return f"{self}{through}"

    @property
    def forwards(self) -> bool:
        """True where requests go to a proxy in absolute form."""
        return self.proxy is not None and not self.tls

    def tls_context(self) -> ssl.SSLContext:
        """Raises ConfigError naming the certificate file that can't be used."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ca_file {self.ca_file}: not a readable PEM file of certificates") from error
        context.set_alpn_protocols(["http/1.1"])
        if self.client_cert is not None:
            try:
                context.load_cert_chain(self.client_cert, self.client_key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"client_cert {self.client_cert}: not a readable PEM certificate with its key"
                ) from error
        return context


def parse_base_url(url: str) -> tuple[str, int, bool, str]:
    """Host, port, TLS or not, and path without its trailing slash. Raises ConfigError."""
    parts = _split(url, "base_url")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"base_url {url!r} is not an http:// or https:// address")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"base_url of {parts.hostname} may hold no user, query or fragment; use api_key or headers"
        )
    try:
        host = parts.hostname.encode("idna").decode("ascii")
    except UnicodeError:
        raise ConfigError(
            f"base_url {url!r}: {parts.hostname!r} is no host name;"
            " each part between its dots has 1 to 63 characters"
        ) from None
    tls = parts.scheme == "https"
    return host, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/")


def parse_proxy(url: str) -> Proxy:
    """A proxy from `http://[user:password@]host:port`. Raises ConfigError."""
    parts = _split(url if "://" in url else f"http://{url}", "proxy")
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(
            f"proxy scheme {parts.scheme!r} is not supported; use an HTTP proxy: http://[user:password@]host:port"
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(parts.hostname, parts.port or 80, authorization)


def environment_proxy(host: str, tls: bool) -> Proxy | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY ask for; never for a loopback host."""
    if host == "localhost" or _is_loopback(host):
        return None
    proxies = urllib.request.getproxies_environment()
    url = proxies.get("https" if tls else "http") or proxies.get("all")
    if not url or urllib.request.proxy_bypass(host):
        return None
    return parse_proxy(url)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises on a bad port
    except ValueError as error:
        raise ConfigError(f"{what} {url!r}: {error}") from error
    return parts


async def open_connection(origin: Origin, tls: ssl.SSLContext | None, protocol: asyncio.Protocol) -> None:
    """Connect `protocol` to `origin`. Raises OSError, or ConnectFailed when a proxy refuses."""
    loop = asyncio.get_running_loop()
    if origin.uds is not None:
        await loop.create_unix_connection(lambda: protocol, origin.uds)
    elif origin.proxy is None and tls is None:
        await loop.create_connection(lambda: protocol, origin.host, origin.port)
    elif origin.proxy is None:
        transport, _ = await loop.create_connection(asyncio.Protocol, origin.host, origin.port)
        await _secure(loop, transport, origin, tls, protocol)
    elif not origin.tls:
        await loop.create_connection(lambda: protocol, origin.proxy.host, origin.proxy.port)
    else:
        await _tunnel(loop, origin, origin.proxy, tls, protocol)


def reason_of(error: Exception) -> str:
    """Why `open_connection` failed, in the system's words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def _tunnel(
    loop: asyncio.AbstractEventLoop,
    origin: Origin,
    proxy: Proxy,
    tls: ssl.SSLContext | None,
    protocol: asyncio.Protocol,
) -> None:
    transport, waiter = await loop.create_connection(lambda: _ConnectReply(loop), proxy.host, proxy.port)
    try:
        target = f"{origin.host}:{origin.port}".encode()
        lines = [b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (target, target)]
        if proxy.authorization is not None:
            lines.append(b"proxy-authorization: %b\r\n" % proxy.authorization)
        transport.write(b"".join([*lines, b"\r\n"]))
        status = await waiter.reply
        if status != 200:
            raise ConnectFailed(
                f"the proxy {proxy.host}:{proxy.port} refused a tunnel to {origin}: status {status}"
            )
    except BaseException:
        transport.abort()
        raise
    await _secure(loop, transport, origin, tls, protocol)


async def _secure(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    origin: Origin,
    tls: ssl.SSLContext | None,
    protocol: asyncio.Protocol,
) -> None:
    """Agree on TLS over a connection. Aborts it where that fails or is given up.

    A loop's own way from the name to a secure connection leaves a timer and buffers for a minute when it is
    cancelled in between.
    """
    assert tls is not None
    try:
        secure = await loop.start_tls(transport, protocol, tls, server_hostname=origin.host)
    except BaseException:
        transport.abort()
        raise
    assert secure is not None
    protocol.connection_made(secure)


class _ConnectReply(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT: its status line and fields, up to the empty line."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reply: asyncio.Future[int] = loop.create_future()
        self._head = b""

    @override
    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.reply.done() or (b"\r\n\r\n" not in self._head and len(self._head) < 16384):
            return
        parts = self._head.split(b" ", 2)
        self.reply.set_result(int(parts[1][:3]) if len(parts) > 1 and parts[1][:3].isdigit() else 0)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.reply.done():
            self.reply.set_exception(exc or ConnectionResetError("the proxy closed the connection"))
