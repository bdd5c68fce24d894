"""Backends by name: built-in rows, outsiders' entry points, and rows that are no good."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headgate.backends import registry as module
from headgate.backends.pools import Pools
from headgate.backends.registry import BUILT_IN, BuildContext, Registry
from headgate.backends.remote import Endpoint, Preset, RemoteBackend, RemoteSettings, remote
from headgate.core.backend import Timeouts
from headgate.core.call import Operation
from headgate.core.errors import ConfigError

CHAT_ONLY = {Operation.CHAT: (Endpoint("openai_chat"),)}


def context() -> BuildContext:
    return BuildContext("m", "m", Timeouts(), Pools())


def offer(monkeypatch: pytest.MonkeyPatch, row: Any) -> Registry:
    """A registry beside which a package with the entry point `acme` is installed."""
    package = ModuleType("acme_headgate")
    package.ROW = row  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acme_headgate", package)
    point = EntryPoint("acme", "acme_headgate:ROW", module.GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: [point] if group == module.GROUP else [])
    return Registry()


def test_every_built_in_row_can_be_loaded() -> None:
    registry = Registry()
    for name in BUILT_IN:
        assert registry[name].model_fields["backend"] is not None


def test_an_outsiders_row_is_a_backend_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = offer(monkeypatch, remote(Preset("acme", CHAT_ONLY, base_url="https://llm.acme.example/v1")))
    assert "acme" in registry
    row = registry.row("acme")
    backend = row.build(row.settings(backend="acme"), context())
    assert backend.operations == {Operation.CHAT}


def test_a_row_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = offer(monkeypatch, "not a row")
    with pytest.raises(ConfigError, match="backend 'acme': its entry point is not a headgate BackendType"):
        registry.row("acme")


def test_a_row_that_cant_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("acme", "no_such_package_here:ROW", module.GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match=r"backend .acme. can.t be loaded: .*no_such_package_here"):
        Registry().row("acme")


def built(preset: Preset, **settings: Any) -> RemoteBackend:
    row = remote(preset)
    backend = row.build(RemoteSettings(backend=preset.name, **settings), context())
    assert isinstance(backend, RemoteBackend)
    return backend


def test_the_vendors_own_key_is_never_sent_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "secret-of-acme")
    preset = Preset("acme", CHAT_ONLY, base_url="https://llm.acme.example/v1", key_env="ACME_API_KEY")
    own, other = built(preset), built(preset, base_url="http://127.0.0.1:9/v1")
    assert (b"authorization", b"Bearer secret-of-acme") in own._fields
    assert not any(name == b"authorization" for name, _ in other._fields)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": None}, "needs base_url, like"),
        ({"base_url": "ftp://x"}, "not an http:// or https:// address"),
        ({"base_url": "http://u:p@x/v1"}, "may hold no user"),
        ({"base_url": "http://x:99999/v1"}, "base_url 'http://x:99999/v1'"),
        ({"base_url": "http://x/v1", "proxy": "socks5://x:1"}, "proxy scheme 'socks5' is not supported"),
        ({"base_url": "http://x/v1", "headers": {"x-a": "b\r\nc"}}, "header field can't be sent"),
    ],
)
def test_settings_that_cant_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(Preset("acme", CHAT_ONLY), **settings)


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="set ACME_API_KEY or api_key"):
        built(Preset("acme", CHAT_ONLY, base_url="https://llm.acme.example/v1", key_env="ACME_API_KEY"))


async def _start_with_ca(path: Path) -> None:
    await built(Preset("acme", CHAT_ONLY), base_url="https://x/v1", ca_file=path).start()


def test_a_ca_file_that_is_none_fails_the_start(tmp_path: Path) -> None:
    import asyncio

    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ca_file .*ca\.pem: not a readable PEM file"):
        asyncio.run(_start_with_ca(path))
