"""Bearer keys: who calls. Only hashes are kept, and nothing here prints a key."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Protocol

from headgate.core.call import ANONYMOUS, Principal
from headgate.core.errors import ConfigError, Unauthenticated

_HEADERS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
_LONGEST_TOKEN = 4096


class HashedKey(Protocol):
    """A key as the configuration has it: a name, and `sha256:` with 64 lower-case hex digits."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    @property
    def admin(self) -> bool: ...


class KeyRing:
    """The keys that callers may use; without any, everybody is `ANONYMOUS`."""

    __slots__ = ("_principals",)

    def __init__(self, keys: Iterable[HashedKey]) -> None:
        self._principals: dict[bytes, tuple[bytes, Principal]] = {}
        for key in keys:
            digest = bytes.fromhex(key.hash.removeprefix("sha256:"))
            self._principals[digest] = digest, Principal(key.name, admin=key.admin)

    def __bool__(self) -> bool:
        return bool(self._principals)

    def authenticate(self, headers: Sequence[tuple[bytes, bytes]]) -> Principal:
        """Who calls, by `Authorization: Bearer`, `x-api-key` or `x-goog-api-key`.

        Args:
            headers: raw headers with lower-case names.

        Raises:
            Unauthenticated: no key, one that is not known, or headers that disagree.
        """
        if not self._principals:
            return ANONYMOUS
        token: bytes | None = None
        for name, value in headers:
            if name in _HEADERS:
                presented = _bearer(value) if name == b"authorization" else value.strip()
                if token and presented and presented != token:
                    raise Unauthenticated("the request carries several different API keys; send one")
                token = presented or token
        return self.authenticate_token(token)

    def authenticate_token(self, token: bytes | None) -> Principal:
        """Who presents `token`; None: nobody did. Raises Unauthenticated.

        The digest is looked up, not the key: how long the lookup takes tells about a hash that the
        caller can't choose byte by byte. The comparison of the whole digest takes constant time.
        """
        if not self._principals:
            return ANONYMOUS
        if not token:
            raise Unauthenticated(
                "no API key; send one as 'Authorization: Bearer KEY' or 'x-api-key: KEY'",
                code="missing_api_key",
            )
        if len(token) <= _LONGEST_TOKEN:
            digest = sha256(token).digest()
            known = self._principals.get(digest)
            if known is not None and hmac.compare_digest(known[0], digest):
                return known[1]
        raise Unauthenticated(
            "the API key is not known to this server; check it, or ask its operator for one"
        )


def _bearer(value: bytes) -> bytes:
    scheme, _, token = value.strip().partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthenticated("the Authorization header is not of the form 'Bearer KEY'")
    return token.strip()


def new_key() -> tuple[str, str]:
    """A fresh key, `hg-` and 32 URL-safe characters (192 random bits), and its hash for the configuration."""
    secret = f"hg-{secrets.token_urlsafe(24)}"
    return secret, f"sha256:{sha256(secret.encode()).hexdigest()}"


def check_exposure(host: str, *, keyed: bool, allow_no_keys: bool) -> None:
    """Refuse to listen beyond this machine without keys, unless the operator said so.

    Raises:
        ConfigError: `host` is not a loopback address, there is no key, and `allow_no_keys` is off.
    """
    if keyed or allow_no_keys or is_loopback(host):
        return
    raise ConfigError(
        f"server.host is {host}: anybody who can reach this machine could use the models without a key. "
        'Make a key with "headgate key NAME" and put it under server.keys, or say --allow-no-keys '
        "(server.allow_no_keys: true)"
    )


def is_loopback(host: str) -> bool:
    """`host`, a name or an address, is this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
