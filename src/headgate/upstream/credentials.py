"""How requests to an upstream are authenticated: a fixed header, a signature, or a token that expires.

All but the first get something that lasts for a while (AWS keys, an OAuth token) through a vendor's own
library, which blocks: it runs in a thread, once for all that wait, and again ahead of the expiry. As long as
what is held lasts, authenticating needs neither a task nor a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from typing_extensions import override

from headgate.core.backend import RawHeaders
from headgate.core.errors import HeadgateError, MissingExtra, Unavailable

EARLY = 300.0
"""Seconds before the expiry at which a successor is fetched."""
LEAST = 30.0
"""Seconds that a token must still last to be sent."""
PAUSE = 10.0
"""Seconds between a fetch and the next that is not forced by an expiry."""
LARGE_BODY = 1024 * 1024
"""Bytes; the signature of a longer body is made in a thread."""

T = TypeVar("T")


class Credentials(Protocol):
    """Header fields that authenticate one request.

    Where `ready()` is true `sign` gives them at once; otherwise, and for bodies above LARGE_BODY, `headers`
    does.

        fields = c.sign(*request) if c.ready() and len(body) <= LARGE_BODY else await c.headers(*request)

    `path_and_query` is the request's target as it is sent, `host` the value of its Host field.
    """

    def ready(self) -> bool:
        """Also starts to fetch a successor of what expires soon. To be called on the event loop."""
        ...

    def sign(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        """Raises Unavailable where nothing is held that lasts."""
        ...

    async def headers(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        """Raises Unavailable: the credentials can't be had."""
        ...

    def invalidate(self) -> None:
        """The upstream refused what was sent (401, 403): fetch anew, though it has not expired."""
        ...


@dataclass(frozen=True, slots=True)
class StaticKey(Credentials):
    """One header field that never changes: `x-api-key`, or `authorization` with its scheme."""

    name: bytes
    value: bytes = field(repr=False)

    @override
    def ready(self) -> bool:
        return True

    @override
    def sign(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        return ((self.name, self.value),)

    @override
    async def headers(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        return self.sign(method, host, path_and_query, body)

    @override
    def invalidate(self) -> None:
        """There is no other."""


@dataclass(frozen=True, slots=True)
class Grant(Generic[T]):
    """What was fetched. `lasts(seconds)`: it will be valid for that long."""

    secret: T = field(repr=False)
    lasts: Callable[[float], bool]


class Renewed(ABC, Credentials, Generic[T]):
    """What expires is fetched ahead of that, one fetch at a time, in a thread.

    A fetch in the background that fails leaves what is held in use; the next try comes after PAUSE. Where
    nothing is held, all that wait get the error, and those of the next PAUSE seconds as well.
    """

    what = "The credentials"
    remedy = ""

    def __init__(self) -> None:
        self._grant: Grant[T] | None = None
        self._flight: asyncio.Future[Grant[T]] | None = None
        self._landed_at = float("-inf")
        self._failure: str | None = None

    @abstractmethod
    def _fetch(self) -> Grant[T]:
        """Get one. Runs in a thread. What it raises is told by its type only, as texts may hold secrets."""

    @abstractmethod
    def _fields(self, secret: T, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders: ...

    def _forget(self) -> None:
        """Drop what would give the same again."""

    @override
    def ready(self) -> bool:
        grant = self._grant
        if grant is None or not grant.lasts(LEAST):
            return False
        if self._flight is None and not grant.lasts(EARLY) and not self._pausing():
            self._start()
        return True

    @override
    def sign(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        grant = self._grant
        if grant is None or not grant.lasts(LEAST):
            raise Unavailable(f"{self.what} have expired and are being renewed; try again.")
        return self._fields(grant.secret, method, host, path_and_query, body)

    @override
    async def headers(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        if not self.ready():
            await self._renew()
        return self.sign(method, host, path_and_query, body)

    @override
    def invalidate(self) -> None:
        if not self._pausing():  # one that is as fresh as can be is refused for another reason
            self._grant = None
            self._forget()

    def _pausing(self) -> bool:
        return time.monotonic() < self._landed_at + PAUSE

    async def _renew(self) -> None:
        if self._flight is None and self._failure is not None and self._pausing():
            raise Unavailable(self._failure, retry_after=PAUSE)
        # Who leaves must not take the fetch from the others.
        await asyncio.shield(self._flight or self._start())

    def _start(self) -> asyncio.Future[Grant[T]]:
        flight = asyncio.get_running_loop().run_in_executor(None, self._fetched)
        self._flight = flight
        flight.add_done_callback(self._landed)
        return flight

    def _fetched(self) -> Grant[T]:
        try:
            grant = self._fetch()
        except HeadgateError:
            raise
        except Exception as error:
            raise Unavailable(
                f"{self.what} could not be had ({type(error).__name__}). {self.remedy}"
            ) from None
        if not grant.lasts(LEAST):
            raise Unavailable(f"{self.what} had expired when they came. {self.remedy}")
        return grant

    def _landed(self, flight: asyncio.Future[Grant[T]]) -> None:
        self._flight = None
        self._landed_at = time.monotonic()
        if flight.cancelled():
            return
        error = flight.exception()
        if error is None:
            self._grant, self._failure = flight.result(), None
        else:
            self._failure = error.message if isinstance(error, HeadgateError) else self.what


class OAuthToken(Renewed[str]):
    """A bearer token. Subclasses say where it comes from."""

    @abstractmethod
    def _token(self) -> tuple[str, float]:
        """Fetch one: the token, and its expiry in Unix seconds. Runs in a thread."""

    @override
    def _fetch(self) -> Grant[str]:
        token, expiry = self._token()
        return Grant(token, lambda seconds: time.time() + seconds < expiry)

    @override
    def _fields(self, secret: str, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        return ((b"authorization", b"Bearer " + secret.encode("latin-1")),)


class EntraToken(OAuthToken):
    """A token of Microsoft Entra ID, for Azure OpenAI.

    Args:
        tenant_id, client_id, client_secret: an application's; without the secret the usual chain decides
            (environment, workload and managed identity, az login).
        scope: of the token.

    Raises:
        MissingExtra: azure-identity is not installed.
    """

    what = "The tokens of Microsoft Entra ID"
    remedy = "Check tenant_id, client_id and client_secret, or what `az account get-access-token` says."

    def __init__(
        self,
        tenant_id: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        scope: str = "https://cognitiveservices.azure.com/.default",
    ) -> None:
        super().__init__()
        self._library = _library("azure.identity", "Entra ID tokens", "azure")
        self._scope = scope
        self._application = (tenant_id, client_id, client_secret)
        self._source: Any = None

    @override
    def _token(self) -> tuple[str, float]:
        source = self._source
        if source is None:
            tenant_id, client_id, client_secret = self._application
            if client_secret is not None:
                source = self._library.ClientSecretCredential(tenant_id, client_id, client_secret)
            else:
                source = self._library.DefaultAzureCredential()
            self._source = source
        token = source.get_token(self._scope)
        return token.token, token.expires_on

    @override
    def _forget(self) -> None:
        self._source = None  # it has a cache of its own


class GoogleServiceAccount(OAuthToken):
    """A token for Google Cloud, for Vertex AI.

    Args:
        key_file: a service account's JSON key; without it Application Default Credentials decide.

    Raises:
        MissingExtra: google-auth, or requests, is not installed.
    """

    what = "The tokens of Google Cloud"
    remedy = "Check the service account's key file, or what `gcloud auth application-default login` set up."
    scopes = ("https://www.googleapis.com/auth/cloud-platform",)

    def __init__(self, key_file: Path | None = None) -> None:
        super().__init__()
        self._auth = _library("google.auth", "Google Cloud tokens", "vertex")
        self._accounts = _library("google.oauth2.service_account", "Google Cloud tokens", "vertex")
        self._transport = _library("google.auth.transport.requests", "Google Cloud tokens", "vertex")
        self._key_file = key_file

    @override
    def _token(self) -> tuple[str, float]:
        if self._key_file is not None:
            account = self._accounts.Credentials
            source = account.from_service_account_file(str(self._key_file), scopes=self.scopes)
        else:
            source, _ = self._auth.default(scopes=self.scopes)
        source.refresh(self._transport.Request())
        return source.token, source.expiry.replace(tzinfo=UTC).timestamp()  # it is told without its zone


class SigV4(Renewed[Any]):
    """AWS Signature Version 4, by botocore.

    The path is signed as it is sent, escaped once more ("double-encoded"), as all services but S3 want it.
    Signed are host, date, session token and body.

    Args:
        region, service: the signature's scope.
        profile: of the shared AWS configuration; without it the usual chain decides (environment, SSO, web
            identity, container and instance metadata).
        access_key, secret_key, session_token: in place of the chain.

    Raises:
        MissingExtra: botocore is not installed.
    """

    what = "The AWS credentials"
    remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or run with a role."

    def __init__(
        self,
        region: str,
        service: str = "bedrock",
        *,
        profile: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
    ) -> None:
        super().__init__()
        self._auth = _library("botocore.auth", "AWS signatures", "bedrock")
        self._requests = _library("botocore.awsrequest", "AWS signatures", "bedrock")
        self._credentials = _library("botocore.credentials", "AWS signatures", "bedrock")
        self._session = _library("botocore.session", "AWS signatures", "bedrock")
        self._region, self._service, self._profile = region, service, profile
        self._source: Any = None
        self._keys = (access_key, secret_key, session_token)
        # At the level DEBUG it would log the session token, as a part of what is signed.
        logging.getLogger("botocore.auth").setLevel(logging.INFO)

    @override
    def _fetch(self) -> Grant[Any]:
        source = self._source
        if source is None:
            access_key, secret_key, session_token = self._keys
            if access_key and secret_key:
                source = self._credentials.Credentials(access_key, secret_key, session_token)
            else:
                source = self._session.Session(profile=self._profile).get_credentials()
            if source is None:
                raise Unavailable(f"There are no AWS credentials. {self.remedy}")
            self._source = source
        keys = source.get_frozen_credentials()
        expires = getattr(source, "refresh_needed", None)
        return Grant(keys, lambda seconds: expires is None or not expires(seconds))

    @override
    def _forget(self) -> None:
        self._source = None

    @override
    def _fields(self, secret: Any, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        request = self._requests.AWSRequest(
            method, f"https://{host}{path_and_query}", headers={"host": host}, data=body
        )
        self._auth.SigV4Auth(secret, self._service, self._region).add_auth(request)
        return [
            (name.lower().encode("ascii"), value.encode("latin-1"))
            for name, value in request.headers.items()
            if name.lower() != "host"
        ]

    @override
    async def headers(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        if len(body) <= LARGE_BODY:
            return await super().headers(method, host, path_and_query, body)
        if not self.ready():
            await self._renew()
        return await asyncio.to_thread(self.sign, method, host, path_and_query, body)


def _library(name: str, feature: str, extra: str) -> Any:
    """A module of a vendor's library. Raises MissingExtra where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtra(feature, extra) from None
