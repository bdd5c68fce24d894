"""Where an upstream is, from its address."""

from __future__ import annotations

import pytest

from headgate.core.errors import ConfigError
from headgate.upstream.origin import parse_base_url


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "path"),
    [
        ("http://127.0.0.1:9/v1/", "127.0.0.1", 9, False, "/v1"),
        ("https://api.example", "api.example", 443, True, ""),
        ("http://[::1]/v1", "::1", 80, False, "/v1"),
        ("https://bücher.example", "xn--bcher-kva.example", 443, True, ""),
        ("https://api.example.", "api.example.", 443, True, ""),
    ],
)
def test_an_address(url: str, host: str, port: int, tls: bool, path: str) -> None:
    assert parse_base_url(url) == (host, port, tls, path)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", ".example"])
def test_a_name_that_nobody_can_be_asked_for(host: str) -> None:
    with pytest.raises(
        ConfigError, match="is no host name; each part between its dots has 1 to 63 characters"
    ):
        parse_base_url(f"https://{host}/v1")
