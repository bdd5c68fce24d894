"""One file over HTTP into the cache: resumed with Range, verified, renamed when whole."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Protocol, cast
from urllib.parse import urlsplit, urlunsplit

from typing_extensions import override

from headgate.core.errors import ConfigError
from headgate.local.cache import CHUNK, OnProgress, PartFile, Progress, locked

STALL_SECONDS = 60.0
ATTEMPTS = 4
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


@dataclass(frozen=True, slots=True)
class Remote:
    """A file to fetch. `secret_headers` go to the first host only, never along with a redirect."""

    url: str
    sha256: str | None = None
    secret_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The URL without user, password and query: what messages may show."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


class NotThere(ConfigError):
    """The source answered 404 (or 410): there is no such file."""


class _Response(Protocol):
    status: int
    headers: Message

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class _LinkedDigest(urllib.request.HTTPRedirectHandler):
    """Follows redirects and remembers the digest that Hugging Face states before it redirects."""

    def __init__(self) -> None:
        self.sha256: str | None = None

    @override
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if found := _SHA256.fullmatch(headers.get("x-linked-etag", "")):
            self.sha256 = found.group(1)
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise ConfigError(f"{urlsplit(req.full_url).hostname} redirects to something that is not HTTP")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(remote: Remote, target: Path, progress: OnProgress | None = None) -> None:
    """Fetch `remote` to `target`, going on where an earlier run stopped. Blocks; not for the event loop.

    Proxies and certificates come from the environment (`https_proxy`, `SSL_CERT_FILE`).

    Raises:
        NotThere: the source has no such file.
        ConfigError: refused, unreachable, cut off again and again, not the expected bytes, disk full.
    """
    with locked(target):
        if target.exists():
            return
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch(remote, target, progress)
                return
            except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
                if attempt == ATTEMPTS:
                    raise ConfigError(
                        f"the download of {target.name} from {remote.shown} broke off ({_reason(error)}): "
                        "pull again, it goes on where it stopped"
                    ) from error


def _fetch(remote: Remote, target: Path, progress: OnProgress | None) -> None:
    validator_file = target.with_name(target.name + ".part.json")
    with PartFile(target, remote.shown) as part:
        validator = _read_validator(validator_file, remote.url)
        if part.size and validator is None and remote.sha256 is None:
            part.truncate(0)  # nothing could tell whether the rest belongs to the same file
        digests = _LinkedDigest()
        response = _open(remote, part.size, validator, digests, target.name)
        if response is None:  # no byte after what is on disk: it was whole already, or is another file
            if remote.sha256 is not None and part.matches(remote.sha256):
                part.commit(remote.sha256)
                return
            part.truncate(0)
            response = _open(remote, 0, None, digests, target.name)
            assert response is not None
        try:
            if not _continues(response, part.size):
                part.truncate(0)
            _write_validator(validator_file, remote.url, response.headers)
            length = response.headers.get("content-length")
            total = part.size + int(length) if length and length.isdigit() else None
            _copy(response, part, total, progress)
        finally:
            response.close()
        part.commit(remote.sha256 or digests.sha256)
    validator_file.unlink(missing_ok=True)


def _continues(response: _Response, offset: int) -> bool:
    """The body starts at `offset` of the file; a plain 200 starts at 0."""
    if response.status != 206:
        return False
    if response.headers.get("content-range", "").startswith(f"bytes {offset}-"):
        return True
    raise http.client.HTTPException("the server sent another range than asked for")


def _copy(response: _Response, part: PartFile, total: int | None, progress: OnProgress | None) -> None:
    name = part.target.name
    if total is not None:
        part.ensure_room(total - part.size)
    if progress:
        progress(Progress(part.size, total, name))
    while block := response.read(CHUNK):
        part.write(block)
        if progress:
            progress(Progress(part.size, total, name))
    if total is not None and part.size < total:
        raise http.client.IncompleteRead(b"", total - part.size)


def _open(
    remote: Remote, offset: int, validator: str | None, digests: _LinkedDigest, name: str
) -> _Response | None:
    """The response, or None where the server says that `offset` is not before the file's end (416)."""
    request = urllib.request.Request(remote.url, headers={"User-Agent": "headgate"})  # noqa: S310 - checked
    for header, value in remote.secret_headers.items():
        request.add_unredirected_header(header, value)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if validator:
            request.add_header("If-Range", validator)
    opener = urllib.request.build_opener(digests)
    try:
        return cast(_Response, opener.open(request, timeout=STALL_SECONDS))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and offset:
            return None
        raise _refusal(remote, name, error) from error
    except urllib.error.URLError as error:
        raise ConfigError(
            f"can't reach {remote.shown} for {name}: {_reason(error)}; check the network, "
            "the proxy (https_proxy) and the certificates (SSL_CERT_FILE)"
        ) from error


def _refusal(remote: Remote, name: str, error: urllib.error.HTTPError) -> ConfigError:
    if error.code in (404, 410):
        return NotThere(
            f"{remote.shown} answers {error.code}: there is no such file; check the name of {name}"
        )
    if error.code in (401, 403):
        return ConfigError(
            f"{remote.shown} answers {error.code} for {name}: access is refused; "
            "for a private or gated Hugging Face repository set HF_TOKEN"
        )
    return ConfigError(f"{remote.shown} answers {error.code} {error.reason} for {name}: try again later")


def _reason(error: BaseException) -> str:
    """One line about a network failure, without the address list and repr noise of the standard library."""
    if isinstance(error, urllib.error.URLError):
        inner = error.reason
        return _reason(inner) if isinstance(inner, BaseException) else str(inner)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS certificate not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection closed early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _read_validator(path: Path, url: str) -> str | None:
    try:
        noted = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    validator = noted.get("validator") if isinstance(noted, dict) and noted.get("url") == url else None
    return validator if isinstance(validator, str) else None


def _write_validator(path: Path, url: str, headers: Message) -> None:
    """Note what If-Range may compare: a strong ETag, else the date (RFC 9110, 13.1.5)."""
    etag = headers.get("etag")
    validator = etag if etag and not etag.startswith("W/") else headers.get("last-modified")
    path.write_text(json.dumps({"url": url, "validator": validator}))
