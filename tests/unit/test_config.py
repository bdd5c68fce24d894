"""Configuration: what is taken, and the exact words for what is not."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from headgate.backends.registry import BUILT_IN, Registry
from headgate.config import schema
from headgate.config.interpolation import interpolate
from headgate.config.load import load, override_names
from headgate.config.quantities import QuantityError, parse_duration, parse_size
from headgate.config.schema import (
    ConfigPath,
    ServerSettings,
    Settings,
    SettingsModel,
    TargetSettings,
    WeightsReference,
)
from headgate.core.backend import Timeouts

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


class RemoteSettings(TargetSettings):
    base_url: str = Field(description="Address of the API.")
    api_key: SecretStr | None = None
    ca_file: ConfigPath | None = None


class WeightsSettings(TargetSettings):
    weights: WeightsReference


class FolderSettings(TargetSettings):
    folder: ConfigPath


class PythonSettings(TargetSettings):
    python: str


BACKENDS: Mapping[str, type[TargetSettings]] = {
    "openai": RemoteSettings,
    "gguf": WeightsSettings,
    "folder": FolderSettings,
    "python": PythonSettings,
}
OPENAI = "backend: openai, base_url: u"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parse(text: str | bytes, environ: Mapping[str, str] | None = None) -> Settings:
    Path("headgate.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return load("headgate.yaml", backends=BACKENDS, environ=environ or {})


# What is taken


def test_the_design_example_loads() -> None:
    Path("key.json").write_text('{"clientid": "c"}\n')
    settings = parse(
        f"""\
server: {{host: 127.0.0.1, port: 8080, keys: [{{name: ci, hash: "sha256:{"aB" * 32}"}}], max_body: 100MB}}
models:
  gpt-4o:
    backend: openai
    base_url: http://127.0.0.1:9001/v1
    model: gpt-4o-2024-11-20
    api_key: ${{OPENAI_API_KEY}}
  claude:
    timeouts: {{connect: 5s, first_event: 60s, idle: 30s, total: 600s}}
    retry: {{attempts: 3}}
    targets:
      - {{backend: openai, base_url: "http://127.0.0.1:9002", weight: 2, timeouts: {{idle: 500ms}}}}
      - {{backend: openai, base_url: "http://127.0.0.1:9003", priority: 2}}
  smollm2: {{backend: gguf, weights: catalog:smollm2}}
  wine: {{folder: ./examples/wine}}
  double: {{python: "mypackage.models:predict"}}
aliases: {{gpt-4: gpt-4o, gpt-3.5: gpt-4}}
accounts:
  eu: {{type: sap-ai-core, service_key: "${{file:./key.json}}", resource_group: default}}
""",
        {"OPENAI_API_KEY": "sk-very-secret"},
    )
    assert settings.server.keys[0].hash == f"sha256:{'ab' * 32}"
    assert settings.server.max_body == 100_000_000
    remote = settings.models["gpt-4o"].targets[0]
    assert isinstance(remote, RemoteSettings)
    assert remote.model == "gpt-4o-2024-11-20"
    assert remote.api_key is not None and remote.api_key.get_secret_value() == "sk-very-secret"
    first, second = settings.models["claude"].targets
    assert (first.weight, first.priority, second.weight, second.priority) == (2, 1, 1, 2)
    claude = settings.models["claude"]
    assert claude.timeouts_of(first) == Timeouts(connect=5, first_event=60, idle=0.5, total=600)
    assert claude.timeouts_of(second).idle == 30
    assert claude.retry.attempts == 3
    wine = settings.models["wine"].targets[0]
    assert isinstance(wine, FolderSettings)
    assert (wine.backend, wine.folder) == ("folder", Path.cwd() / "examples/wine")
    assert settings.models["double"].targets[0].backend == "python"
    assert settings.aliases == {"gpt-4": "gpt-4o", "gpt-3.5": "gpt-4o"}
    assert settings.accounts["eu"]["service_key"] == '{"clientid": "c"}'


def test_secrets_do_not_print() -> None:
    settings = parse(
        f"models: {{m: {{{OPENAI}, api_key: sk-secret}}}}\naccounts: {{eu: {{client_secret: sk-secret}}}}"
    )
    assert "sk-secret" not in repr(settings)
    assert "sk-secret" not in str(settings)


def test_settings_are_frozen() -> None:
    settings = parse(f"models: {{m: {{{OPENAI}}}}}")
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1


def test_json_is_taken() -> None:
    path = Path("headgate.json")
    path.write_text(json.dumps({"models": {"m": {"backend": "openai", "base_url": "u", "weight": 1e1}}}))
    assert load(path, backends=BACKENDS, environ={}).models["m"].targets[0].weight == 10


def test_scalars_follow_yaml_1_2() -> None:
    settings = parse(
        "server: {access_log: off, port: 0x10}\n"
        f"models:\n  no: {{{OPENAI}, description: yes, owned_by: 2024-01-01}}\n  4.10: {{{OPENAI}}}\n"
    )
    assert settings.server.port == 16
    assert settings.server.access_log is False
    assert set(settings.models) == {"no", "4.10"}
    assert settings.models["no"].description == "yes"
    assert settings.models["no"].owned_by == "2024-01-01"


def test_merge_keys_add_what_is_not_set() -> None:
    settings = parse(
        "models:\n"
        "  a: &base {backend: openai, base_url: u, weight: 3, strict: true}\n"
        "  b: {<<: *base, base_url: other}\n"
    )
    target = settings.models["b"].targets[0]
    assert isinstance(target, RemoteSettings)
    assert (target.base_url, target.weight, settings.models["b"].strict) == ("other", 3, True)


def test_relative_paths_are_relative_to_the_file() -> None:
    folder = Path("conf")
    folder.mkdir()
    (folder / "key").write_text("from-file\n")
    (folder / "headgate.yaml").write_text(
        f'models: {{m: {{{OPENAI}, ca_file: certs/ca.pem, api_key: "${{file:key}}"}}}}'
    )
    target = load(folder / "headgate.yaml", backends=BACKENDS, environ={}).models["m"].targets[0]
    assert isinstance(target, RemoteSettings)
    assert target.ca_file == Path.cwd() / "conf/certs/ca.pem"
    assert target.api_key is not None and target.api_key.get_secret_value() == "from-file"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("catalog:smollm2", "catalog:smollm2"),
        ("qwen2.5-coder-0.5b", "qwen2.5-coder-0.5b"),
        ("hf:org/repo/model.gguf", "hf:org/repo/model.gguf"),
        ("https://host/model.gguf", "https://host/model.gguf"),
        ("model.gguf", "{base}/model.gguf"),
        ("./minilm", "{base}/minilm"),
        ("/abs/minilm", "/abs/minilm"),
    ],
)
def test_weights_are_relative_to_the_file(written: str, expected: str) -> None:
    Path("conf").mkdir()
    path = Path("conf/headgate.yaml")
    path.write_text(f"models: {{m: {{backend: gguf, weights: '{written}'}}}}")
    target = load(path, backends=BACKENDS, environ={}).models["m"].targets[0]
    assert isinstance(target, WeightsSettings)
    assert target.weights == expected.format(base=Path.cwd() / "conf")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${UNSET:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${A:-d}", "1"),
        ("${UNSET:-}", ""),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("a$b $5", "a$b $5"),
        ("ü${A}", "ü1"),
    ],
)
def test_references(text: str, expected: str) -> None:
    assert interpolate(text, environ={"A": "1", "EMPTY": ""}, base_dir=Path()) == expected


def test_a_reference_in_a_value_is_not_read_as_yaml() -> None:
    settings = parse(f'models: {{m: {{{OPENAI}, api_key: "${{K}}"}}}}', {"K": "null"})
    target = settings.models["m"].targets[0]
    assert isinstance(target, RemoteSettings)
    assert target.api_key is not None and target.api_key.get_secret_value() == "null"


@given(st.text())
def test_dollars_escape_any_text(text: str) -> None:
    assert interpolate(text.replace("$", "$$"), environ={}, base_dir=Path()) == text


def test_environment_overrides_server_settings() -> None:
    environ = {
        "HEADGATE_PORT": "9999",
        "HEADGATE_MAX_BODY": "1MiB",
        "HEADGATE_ACCESS_LOG": "false",
        "HEADGATE_HOST": "",
        "HEADGATE_SOMETHING": "x",
    }
    server = parse(f'server: {{port: 1, host: "::1"}}\nmodels: {{m: {{{OPENAI}}}}}', environ).server
    assert (server.port, server.max_body, server.access_log, server.host) == (9999, 1 << 20, False, "::1")


def test_every_plain_server_setting_has_an_override() -> None:
    assert override_names() == {
        f"HEADGATE_{name.upper()}": name for name in ServerSettings.model_fields if name != "keys"
    }


# Durations and sizes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("500ms", 0.5), ("2m", 120), ("1.5h", 5400), (" 3 s ", 3), (7, 7), (0.25, 0.25), ("9", 9)],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "5S", "5 y", "-5s", "0", 0, -1, True, None, [], "1e9", "inf", "400d"]
)
def test_not_durations(text: Any) -> None:
    with pytest.raises(QuantityError, match="must be a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("10KB", 10_000), ("1MiB", 1 << 20), ("100mb", 100_000_000), (5, 5), ("5", 5), ("1.5 GiB", 3 << 29)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1 XB", "-1", 0, True, None, float("inf"), "99999999TB", 0.5])
def test_not_sizes(text: Any) -> None:
    with pytest.raises(QuantityError, match="must be a size"):
        parse_size(text)


# The page about it


def documented() -> dict[str, set[str]]:
    """First cells of the tables under each heading, by every name in it: `{"server": {"host", …}}`."""
    sections: dict[str, set[str]] = {}
    names: list[str] = []
    for line in DOCS.read_text().splitlines():
        if line.startswith("#"):
            names = re.findall(r"`([\w-]+)`", line)
        elif match := re.match(r"\| `(\w+)` \|", line):
            for name in names:
                sections.setdefault(name, set()).add(match[1])
    return sections


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("server", schema.ServerSettings),
        ("keys", schema.KeySettings),
        ("models", schema.ModelSettings),
        ("targets", schema.TargetSettings),
        ("timeouts", schema.TimeoutSettings),
        ("retry", schema.RetrySettings),
        ("hedge", schema.HedgeSettings),
        ("hold_back", schema.HoldBackSettings),
        ("breaker", schema.BreakerSettings),
        ("probe", schema.ProbeSettings),
        ("resumable", schema.ResumeSettings),
    ],
)
def test_the_page_lists_every_setting(heading: str, model: type[SettingsModel]) -> None:
    assert documented()[heading] == set(model.model_fields)


@pytest.mark.parametrize("backend", sorted(BUILT_IN))
def test_the_page_lists_every_option_of_a_backend(backend: str) -> None:
    assert documented()[backend] == set(Registry()[backend].model_fields) - set(TargetSettings.model_fields)


def test_the_page_covers_every_class_of_settings() -> None:
    classes = {
        name
        for name, value in inspect.getmembers(schema, inspect.isclass)
        if issubclass(value, SettingsModel) and value not in (SettingsModel, Settings)
    }
    assert classes == {
        *(
            "ServerSettings",
            "KeySettings",
            "ModelSettings",
            "TargetSettings",
            "TimeoutSettings",
            "RetrySettings",
            "HedgeSettings",
            "HoldBackSettings",
            "BreakerSettings",
            "ProbeSettings",
            "ResumeSettings",
        )
    }
    for section in Settings.model_fields:
        assert re.search(rf"^## `{section}`", DOCS.read_text(), re.MULTILINE), section


def test_the_page_lists_every_variable() -> None:
    assert set(re.findall(r"HEADGATE_[A-Z_]+", DOCS.read_text())) >= set(override_names())
