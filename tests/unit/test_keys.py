"""Keys: who calls, told from headers; and what is refused."""

from __future__ import annotations

import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.schema import KeySettings
from headgate.core.call import ANONYMOUS
from headgate.core.errors import ConfigError, Unauthenticated
from headgate.policy.keys import KeyRing, check_exposure, new_key


def entry(name: str, secret: str) -> KeySettings:
    return KeySettings(name=name, hash=f"sha256:{sha256(secret.encode()).hexdigest()}")


RING = KeyRing([entry("ci", "hg-one"), entry("ops", "hg-two"), entry("ünï", "hg-schlüssel")])

NO_KEY = "no API key; send one as 'Authorization: Bearer KEY' or 'x-api-key: KEY'"
WRONG_KEY = "the API key is not known to this server; check it, or ask its operator for one"
NOT_BEARER = "the Authorization header is not of the form 'Bearer KEY'"
SEVERAL = "the request carries several different API keys; send one"


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ([(b"authorization", b"Bearer hg-one")], "ci"),
        ([(b"authorization", b"bearer   hg-two ")], "ops"),
        ([(b"x-api-key", b"hg-one")], "ci"),
        ([(b"x-api-key", b" hg-one ")], "ci"),
        ([(b"x-goog-api-key", b"hg-two")], "ops"),
        ([(b"host", b"x"), (b"x-api-key", b"hg-one"), (b"authorization", b"Bearer hg-one")], "ci"),
        ([(b"x-api-key", b""), (b"authorization", b"Bearer hg-one")], "ci"),
        ([(b"authorization", b"Bearer hg-one"), (b"x-api-key", b"")], "ci"),
        ([(b"x-api-key", "hg-schlüssel".encode())], "ünï"),
    ],
)
def test_known_keys(headers: list[tuple[bytes, bytes]], name: str) -> None:
    principal = RING.authenticate(headers)
    assert (principal.name, principal.authenticated) == (name, True)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([], NO_KEY),
        ([(b"host", b"x"), (b"cookie", b"hg-one")], NO_KEY),
        ([(b"authorization", b"Bearer ")], NO_KEY),
        ([(b"authorization", b"Bearer")], NO_KEY),
        ([(b"x-api-key", b"")], NO_KEY),
        ([(b"authorization", b"Bearer hg-three")], WRONG_KEY),
        ([(b"authorization", b"Bearer hg-one hg-two")], WRONG_KEY),
        ([(b"x-api-key", b"HG-ONE")], WRONG_KEY),
        ([(b"x-api-key", b"Bearer hg-one")], WRONG_KEY),
        ([(b"x-api-key", b"\xff\x00\xe9")], WRONG_KEY),
        ([(b"x-api-key", b"k" * 100_000)], WRONG_KEY),
        ([(b"authorization", b"Basic aGctb25l")], NOT_BEARER),
        ([(b"authorization", b"hg-one")], NOT_BEARER),
        ([(b"authorization", b"")], NOT_BEARER),
        ([(b"authorization", b"Bearer hg-one"), (b"x-api-key", b"hg-two")], SEVERAL),
        ([(b"authorization", b"Bearer hg-one"), (b"authorization", b"Bearer hg-two")], SEVERAL),
    ],
)
def test_refused(headers: list[tuple[bytes, bytes]], words: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        RING.authenticate(headers)
    assert (caught.value.message, caught.value.status) == (words, 401)


def test_the_hash_itself_is_no_key() -> None:
    hashed = sha256(b"hg-one").hexdigest()
    for token in (hashed, f"sha256:{hashed}"):
        with pytest.raises(Unauthenticated):
            RING.authenticate_token(token.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(token: bytes) -> None:
    if token in (b"hg-one", b"hg-two"):
        return
    with pytest.raises(Unauthenticated) as caught:
        RING.authenticate_token(token)
    assert caught.value.message in (NO_KEY, WRONG_KEY)


def test_without_keys_everybody_is_anonymous() -> None:
    ring = KeyRing([])
    assert not ring
    assert ring.authenticate([(b"authorization", b"Basic whatever")]) is ANONYMOUS
    assert ring.authenticate_token(None) is ANONYMOUS


def test_a_ring_does_not_print_its_keys() -> None:
    assert sha256(b"hg-one").hexdigest() not in repr(RING)
    assert RING


def test_a_new_key_opens_the_ring_that_holds_its_hash() -> None:
    secret, digest = new_key()
    assert re.fullmatch(r"hg-[A-Za-z0-9_-]{32}", secret)
    ring = KeyRing([KeySettings(name="new", hash=digest)])
    assert ring.authenticate_token(secret.encode()).name == "new"
    assert new_key()[0] != secret


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    check_exposure(host, keyed=False, allow_no_keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "", "localhost.example.org"])
def test_listening_beyond_this_machine_needs_a_key_or_consent(host: str) -> None:
    check_exposure(host, keyed=True, allow_no_keys=False)
    check_exposure(host, keyed=False, allow_no_keys=True)
    with pytest.raises(ConfigError) as caught:
        check_exposure(host, keyed=False, allow_no_keys=False)
    assert caught.value.message == (
        f"server.host is {host}: anybody who can reach this machine could use the models without a key. "
        'Make a key with "headgate key NAME" and put it under server.keys, or say --allow-no-keys '
        "(server.allow_no_keys: true)"
    )
