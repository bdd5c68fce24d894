"""LiteLLM's configurations as ours: what is taken over, what is named, and that the result can be loaded."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headgate.backends.registry import Registry
from headgate.cli.main import main
from headgate.config.importers.imported import Imported
from headgate.config.importers.litellm import read_litellm
from headgate.config.load import load
from headgate.config.schema import Settings
from headgate.core.errors import ConfigError
from headgate.server.build import build

FULL = """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/eu-deployment
      api_base: https://eu.example.com/
      api_key: os.environ/AZURE_EU_KEY
      api_version: "2024-10-21"
      rpm: 600
      timeout: 120
      stream_timeout: 20
    model_info: {supports_vision: false, max_input_tokens: 128000}
  - model_name: gpt-4o
    litellm_params: {model: gpt-4o, api_key: os.environ/OPENAI_API_KEY, rpm: 300, order: 2}
  - model_name: claude
    litellm_params:
      model: anthropic/claude-sonnet-4-5
      api_key: os.environ/ANTHROPIC_API_KEY
      max_retries: 4
  - model_name: claude-aws
    litellm_params:
      model: bedrock/converse/anthropic.claude-sonnet-4-5-20250929-v1:0
      aws_region_name: eu-central-1
      aws_access_key_id: os.environ/AWS_ID
      aws_secret_access_key: os.environ/AWS_SECRET
  - model_name: qwen
    litellm_params: {model: hosted_vllm/Qwen/Qwen3, api_base: "http://gpu:8000", weight: 3}
  - model_name: own
    litellm_params: {model: openai/mine, api_base: "http://gpu:9000/v1", api_key: "sk-a$b-literal-secret"}
  - model_name: embed
    litellm_params: {model: text-embedding-3-small, api_key: os.environ/OPENAI_API_KEY}
  - model_name: odd
    litellm_params: {model: replicate/llama, api_key: x}
  - model_name: "*"
    litellm_params: {model: "*"}
router_settings:
  routing_strategy: least-busy
  num_retries: 0
  timeout: 300
  allowed_fails: 3
  cooldown_time: 30
  redis_host: localhost
  fallbacks: [{gpt-4o: [claude, nowhere]}]
  model_group_alias: {gpt-4: gpt-4o, hidden: {model: claude, hidden: true}, lost: nowhere}
litellm_settings:
  drop_params: false
  success_callback: [langfuse]
  context_window_fallbacks: [{claude: [gpt-4o]}]
general_settings:
  master_key: sk-1234
  database_url: postgresql://x
environment_variables: {A: b}
"""


def read(text: str, environ: dict[str, str] | None = None) -> Imported:
    return read_litellm(yaml.safe_load(text), environ or {})


def loaded(imported: Imported, folder: Path) -> Settings:
    """The result, as `headgate check` takes it, with every variable set."""
    path = folder / "headgate.yaml"
    path.write_text(imported.yaml())
    names = {"AZURE_EU_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_ID", "AWS_SECRET", "AWS_REGION"}
    return load(path, backends=Registry(), environ=dict.fromkeys(names, "value"))


def notes(imported: Imported) -> dict[str, str]:
    return {note.path: note.message for note in imported.notes}


def test_a_whole_configuration_can_be_loaded_and_built(tmp_path: Path) -> None:
    settings = loaded(read(FULL), tmp_path)
    assert set(settings.models) == {"gpt-4o", "claude", "claude-aws", "qwen", "own", "embed"}
    assert settings.aliases == {"gpt-4": "gpt-4o", "hidden": "claude"}
    remote = {name: model for name, model in settings.models.items() if name != "claude-aws"}
    gateway = build(settings.model_copy(update={"models": remote}), offline=True)
    assert [target.provider for target in gateway.router.find("gpt-4").targets] == ["azure-openai", "openai"]


def test_models_with_one_name_are_targets_of_one_model() -> None:
    found = read(FULL).content["models"]["gpt-4o"]
    first, second = found["targets"]
    assert first == {
        "backend": "azure-openai",
        "base_url": "https://eu.example.com",
        "model": "eu-deployment",
        "api_key": "${AZURE_EU_KEY}",
        "api_version": "2024-10-21",
        "lacks": ["images"],
        "context_length": 128000,
        "timeouts": {"total": 120.0, "first_event": 20.0},
        "weight": 600.0,
    }
    assert second == {
        "backend": "openai",
        "model": "gpt-4o",
        "api_key": "${OPENAI_API_KEY}",
        "priority": 2,
        "weight": 300.0,
    }
    assert found["balance"] == "least_in_flight"
    assert found["breaker"] == {"failures": 4, "cooldown": 30.0}
    assert found["timeouts"] == {"total": 300.0}
    assert found["fallbacks"] == ["claude"]
    assert found["retry"] == {"attempts": 3}  # no retries, but each target and the fallback once


def test_single_targets_are_written_inline() -> None:
    models = read(FULL).content["models"]
    assert models["claude"]["backend"] == "anthropic"
    assert models["claude"]["retry"] == {"attempts": 5}
    assert models["claude"]["fallbacks"] == ["gpt-4o"]
    assert models["claude-aws"]["model"] == "anthropic.claude-sonnet-4-5-20250929-v1:0"
    assert models["claude-aws"]["secret_key"] == "${AWS_SECRET}"
    assert models["qwen"] | {"weight": 3.0} == models["qwen"]
    assert models["qwen"]["base_url"] == "http://gpu:8000/v1"
    assert models["own"]["backend"] == "openai-compatible"
    assert models["own"]["api_key"] == "sk-a$$b-literal-secret"
    assert models["embed"]["backend"] == "openai"


def test_what_has_no_equivalent_is_named() -> None:
    assert notes(read(FULL)).keys() == {
        "model_list[0].litellm_params.rpm",
        "model_list[1].litellm_params.rpm",
        "model_list[5].litellm_params.api_key",
        "model_list[7].litellm_params.model",
        "model_list[8]",
        "router_settings.redis_host",
        "router_settings.fallbacks",
        "router_settings.model_group_alias.hidden",
        "router_settings.model_group_alias.lost",
        "litellm_settings.context_window_fallbacks",
        "litellm_settings.success_callback",
        "litellm_settings.drop_params",
        "general_settings.database_url",
        "environment_variables",
    }


def test_the_master_key_becomes_a_hash() -> None:
    digest = f"sha256:{sha256(b'sk-1234').hexdigest()}"
    assert read(FULL).content["server"] == {"keys": [{"name": "master", "hash": digest, "admin": True}]}
    text = FULL.replace("master_key: sk-1234", "master_key: os.environ/MASTER")
    assert read(text, {"MASTER": "sk-1234"}).content["server"]["keys"][0]["hash"] == digest
    unknown = read(text)
    assert "server" not in unknown.content
    assert "headgate key" in notes(unknown)["general_settings.master_key"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no list under model_list"),
        ([], "no list under model_list"),
        ({"models": {}}, "no list under model_list"),
        ({"model_list": []}, "it is empty"),
        (
            {"model_list": [{"model_name": "x", "litellm_params": {"model": "nope/x"}}]},
            "no backend for 'nope'",
        ),
    ],
)
def test_what_is_no_configuration_of_litellms(content: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_litellm(content, {})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
PARAMS = st.fixed_dictionaries(
    {"model": st.sampled_from(["openai/a", "bedrock/b", "vertex_ai/c", "ollama/d"]) | VALUES},
    optional=dict.fromkeys(
        ("api_base", "api_key", "weight", "order", "timeout", "rpm", "extra_headers"), VALUES
    ),
)


@given(
    st.fixed_dictionaries(
        {
            "model_list": st.lists(
                st.fixed_dictionaries({"model_name": st.text(max_size=4), "litellm_params": PARAMS}) | VALUES,
                max_size=3,
            )
        },
        optional=dict.fromkeys(("router_settings", "litellm_settings", "general_settings"), VALUES),
    )
)
def test_whatever_is_in_it_is_taken_over_named_or_refused_in_words(content: Any) -> None:
    try:
        read_litellm(content, {}).yaml()
    except ConfigError as error:
        assert error.message


def test_the_command_writes_a_file_that_can_be_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "config.yaml", tmp_path / "headgate.yaml"
    source.write_text("model_list: [{model_name: a, litellm_params: {model: openai/a, api_key: k, foo: 1}}]")
    assert main(["import", "litellm", str(source), "--output", str(output)]) == 0
    assert "model_list[0].litellm_params.foo: has no equivalent" in capsys.readouterr().err
    assert main(["check", str(output)]) == 0
    assert main(["import", "litellm", str(source), "--output", str(output)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["import", "litellm", str(source), "--output", str(output), "--force"]) == 0
    capsys.readouterr()
    assert main(["import", "litellm", str(source)]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(output.read_text())


@pytest.mark.parametrize(
    ("text", "words"), [("model_list: [", "not YAML"), ("a: 1", "model_list"), ("\x00", "not YAML")]
)
def test_the_command_says_what_is_wrong(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "config.yaml"
    source.write_text(text)
    assert main(["import", "litellm", str(source)]) == 2
    assert words in capsys.readouterr().err
