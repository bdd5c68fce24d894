"""What differs between two configurations, and what of it a running server can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headgate.config.schema import ServerSettings, Settings
from headgate.server.changes import NEEDS_RESTART, changes, in_effect
from tests.support.server import settings_from


def settings(folder: Path, **content: Any) -> Settings:
    return settings_from(folder, {"models": {"m": {"backend": "scripted"}}, **content})


def test_nothing_has_changed(tmp_path: Path) -> None:
    found = changes(settings(tmp_path), settings(tmp_path), {})
    assert found.in_words() == "nothing has changed"
    assert found.to_wire()["models"] == {"added": (), "removed": (), "changed": ()}


def test_each_thing_that_changed_is_named(tmp_path: Path) -> None:
    models: dict[str, Any] = {
        "m": {"backend": "scripted"},
        "gone": {"backend": "scripted"},
        "same": {"backend": "scripted"},
    }
    old = settings(tmp_path, models=models, aliases={"a": "m", "b": "m"})
    models = {**models, "m": {"backend": "scripted", "weight": 2}, "new": {"backend": "scripted"}}
    del models["gone"]
    server = {"max_body": 5, "access_log": False, "state": "./state.db"}
    new = settings(tmp_path, models=models, aliases={"a": "same", "c": "m"}, server=server)
    found = changes(old, new, {"new": "no such file"})
    assert found.to_wire() == {
        "models": {"added": ("new",), "removed": ("gone",), "changed": ("m",)},
        "aliases": ("a", "b", "c"),
        "settings": ("server.max_body",),
        "needs_restart": ("server.state", "server.access_log"),
        "broken": {"new": "no such file"},
    }
    assert found.in_words() == (
        "models added: new; removed: gone; changed: m; aliases changed: a, b, c; settings changed: "
        "server.max_body; not before a restart: server.state, server.access_log; broken: new"
    )


def test_what_needs_a_restart_stays_as_it_runs(tmp_path: Path) -> None:
    running = settings(tmp_path, server={"log_level": "error"}).server
    said = settings(tmp_path, server={"log_level": "debug", "port": 7, "max_body": 5})
    had = in_effect(said, running)
    assert (had.server.log_level, had.server.port, had.server.max_body) == ("error", running.port, 5)
    assert set(NEEDS_RESTART) < set(ServerSettings.model_fields)


def test_changes_hold_names_and_no_values(tmp_path: Path) -> None:
    remote = {"backend": "openai-compatible", "base_url": "http://127.0.0.1:1", "api_key": "sk-one"}
    old = settings(tmp_path, models={"m": remote})
    new = settings(tmp_path, models={"m": {**remote, "api_key": "sk-two"}})
    found = changes(old, new, {})
    assert found.changed == ("m",)
    assert "sk-" not in f"{found} {found.to_wire()} {found.in_words()}"
