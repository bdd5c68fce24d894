"""Mistakes in a configuration: every one is told, in words that name the place and the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, SecretStr
from typing_extensions import override

from headgate.config.load import load
from headgate.config.schema import ConfigPath, Settings, TargetSettings
from headgate.core.errors import ConfigError


class RemoteSettings(TargetSettings):
    base_url: str = Field(description="Address of the API.")
    api_key: SecretStr | None = None
    ca_file: ConfigPath | None = None


class Unloadable(Mapping[str, type[TargetSettings]]):
    """Backends as the registry has them: loaded when asked for, and one of them can't be."""

    @override
    def __getitem__(self, name: str) -> type[TargetSettings]:
        raise ConfigError(f"backend {name!r} can't be loaded: No module named 'x'")

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(["broken"])

    @override
    def __len__(self) -> int:
        return 1

    @override
    def __contains__(self, name: object) -> bool:
        return name == "broken"


BACKENDS: Mapping[str, type[TargetSettings]] = {
    "openai": RemoteSettings,
    "gguf": TargetSettings,
    "folder": TargetSettings,
    "python": TargetSettings,
}
OPENAI = "backend: openai, base_url: u"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parse(text: str | bytes, environ: Mapping[str, str] | None = None) -> Settings:
    Path("headgate.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return load("headgate.yaml", backends=BACKENDS, environ=environ or {})


def mistakes(text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, environ)
    return caught.value.message.splitlines()


# What is not: exact words


MISTAKES: dict[str, tuple[str, str]] = {
    "misspelt setting": (
        f"models:\n  gpt-4o:\n    {OPENAI.replace(', ', chr(10) + '    ')}\n    modle: x\n",
        'headgate.yaml:5: models.gpt-4o.modle: unknown setting; did you mean "model"? known: backend, model, '
        "weight, priority, max_concurrency, max_queue, timeouts, lacks, context_length, quota, probe, "
        "base_url, api_key, ca_file, retry, balance, affinity, fallbacks, hedge, hold_back, breaker, "
        "resumable, max_in_flight, max_waiting, strict, owned_by, description",
    ),
    "misspelt section": (
        f"models: {{m: {{{OPENAI}}}}}\nacounts: {{}}",
        'headgate.yaml:2: acounts: unknown setting; did you mean "accounts"? '
        "known: server, models, aliases, accounts",
    ),
    "misspelt server setting": (
        f"models: {{m: {{{OPENAI}}}}}\nserver:\n  keys:\n    "
        f"- {{nam: ci, hash: 'sha256:{'0' * 64}', name: ci}}",
        'headgate.yaml:4: server.keys[0].nam: unknown setting; did you mean "name"? known: name, hash, admin',
    ),
    "unknown backend": (
        "models: {m: {backend: opnai}}",
        'headgate.yaml:1: models.m.backend: unknown backend "opnai"; did you mean "openai"? '
        "known: openai, gguf, folder, python",
    ),
    "no backend": (
        "models:\n  m: {weight: 2}",
        'headgate.yaml:2: models.m: say what answers: "backend: NAME" (openai, gguf, folder, python), '
        '"folder: PATH", "python: MODULE:ATTRIBUTE", or several "targets: [...]"',
    ),
    "misspelt backend": (
        "models: {m: {bakend: openai}}",
        'headgate.yaml:1: models.m.bakend: unknown setting; did you mean "backend"?',
    ),
    "backend is a list": (
        "models: {m: {backend: [openai]}}",
        "headgate.yaml:1: models.m.backend: must be the name of a backend: openai, gguf, folder, python",
    ),
    "two sugars": (
        'models: {m: {folder: x, python: "a:b"}}',
        'headgate.yaml:1: models.m: both "folder" and "python" say what answers; keep one of the two',
    ),
    "sugar and backend": (
        f"models: {{m: {{{OPENAI}, folder: x}}}}",
        'headgate.yaml:1: models.m.folder: "backend: openai" already says what answers; keep one of the two',
    ),
    "inline and targets": (
        f"models:\n  m:\n    base_url: u\n    targets: [{{{OPENAI}}}]",
        'headgate.yaml:3: models.m.base_url: belongs to a target; move it into each of "targets", '
        "or write one target without it",
    ),
    "model setting in a target": (
        f"models:\n  m:\n    targets:\n    - {{{OPENAI}, strict: true}}",
        'headgate.yaml:4: models.m.targets[0].strict: belongs to the model; move it beside "targets" '
        "(known here: backend, model, weight, priority, max_concurrency, max_queue, timeouts, lacks, "
        "context_length, quota, probe, base_url, api_key, ca_file)",
    ),
    "no targets": (
        "models: {m: {targets: []}}",
        "headgate.yaml:1: models.m.targets: must be a list of at least one target, like [{backend: …}]",
    ),
    "a target that is none": (
        f"models: {{m: {{targets: [{{{OPENAI}}}, 3]}}}}",
        "headgate.yaml:1: models.m.targets[1]: must be a mapping of settings, like {backend: …}",
    ),
    "missing option": (
        "models:\n  m:\n    backend: openai",
        "headgate.yaml:2: models.m.base_url: required, but not set: Address of the API.",
    ),
    "missing variable": (
        f"models:\n  m:\n    {OPENAI.replace(', ', chr(10) + '    ')}\n    api_key: ${{OPENAI_API_KEY}}",
        "headgate.yaml:5: models.m.api_key: environment variable OPENAI_API_KEY is not set; set it, "
        "or give a default: ${OPENAI_API_KEY:-…}",
    ),
    "malformed reference": (
        "models: {m: {backend: openai, base_url: '${A B}'}}",
        "headgate.yaml:1: models.m.base_url: malformed reference; write ${NAME}, ${NAME:-default} or "
        "${file:path}, and $$ for a plain $",
    ),
    "duration": (
        f"models: {{m: {{{OPENAI}, timeouts: {{idle: 5 parsecs}}}}}}",
        "headgate.yaml:1: models.m.timeouts.idle: must be a duration: seconds, or a number with us, ms, s, "
        'm, h or d, like 30s, not "5 parsecs"',
    ),
    "size": (
        f"server: {{max_body: lots}}\nmodels: {{m: {{{OPENAI}}}}}",
        "headgate.yaml:1: server.max_body: must be a size: bytes, or a number with KB, MB, GB, KiB, MiB or "
        'GiB, like 100MB, not "lots"',
    ),
    "number too small": (
        f"models: {{m: {{{OPENAI}, weight: 0}}}}",
        "headgate.yaml:1: models.m.weight: must be above 0, not 0",
    ),
    "port too large": (
        f"server: {{port: 65536}}\nmodels: {{m: {{{OPENAI}}}}}",
        "headgate.yaml:1: server.port: must be 65535 or less, not 65536",
    ),
    "port is a truth value": (
        f"server: {{port: true}}\nmodels: {{m: {{{OPENAI}}}}}",
        "headgate.yaml:1: server.port: must be a number, not true or false",
    ),
    "port is text": (
        f"server: {{port: http}}\nmodels: {{m: {{{OPENAI}}}}}",
        'headgate.yaml:1: server.port: must be a whole number, not "http"',
    ),
    "port is empty": (
        f"server: {{port: }}\nmodels: {{m: {{{OPENAI}}}}}",
        "headgate.yaml:1: server.port: must be a whole number, not empty",
    ),
    "one of several": (
        f"server: {{log_format: jsno}}\nmodels: {{m: {{{OPENAI}}}}}",
        'headgate.yaml:1: server.log_format: must be one of auto, text, json, not "jsno"; '
        'did you mean "json"?',
    ),
    "truth value": (
        f"models: {{m: {{{OPENAI}, strict: maybe}}}}",
        'headgate.yaml:1: models.m.strict: must be true or false, not "maybe"',
    ),
    "number for text": (
        f"models: {{m: {{{OPENAI}, api_key: 12345}}}}",
        "headgate.yaml:1: models.m.api_key: must be a text; put it in quotes",
    ),
    "mapping for text": (
        "models: {m: {backend: openai, base_url: {a: 1}}}",
        "headgate.yaml:1: models.m.base_url: must be a text; put it in quotes, not a mapping",
    ),
    "key instead of hash": (
        f"server:\n  keys:\n    - name: ci\n      hash: hg-secret\nmodels: {{m: {{{OPENAI}}}}}",
        'headgate.yaml:4: server.keys[0].hash: must be "sha256:" and 64 hex digits; '
        "`headgate key` makes a key and its hash",
    ),
    "the same key twice": (
        f"server:\n  keys: [{{name: a, hash: 'sha256:{'0' * 64}'}}, {{name: b, hash: 'sha256:{'0' * 64}'}}]\n"
        f"models: {{m: {{{OPENAI}}}}}",
        'headgate.yaml:2: server.keys: "a" and "b" are the same key; remove one',
    ),
    "key name with control characters": (
        f"server: {{keys: [{{name: \"a\\nb\", hash: 'sha256:{'0' * 64}'}}]}}\nmodels: {{m: {{{OPENAI}}}}}",
        "headgate.yaml:1: server.keys[0].name: must hold no control characters: it is written to logs",
    ),
    "keys are a mapping": (
        f"server: {{keys: {{ci: x}}}}\nmodels: {{m: {{{OPENAI}}}}}",
        "headgate.yaml:1: server.keys: must be a list, not a mapping",
    ),
    "server is a list": (
        f"server: []\nmodels: {{m: {{{OPENAI}}}}}",
        "headgate.yaml:1: server: must be a mapping of settings",
    ),
    "timeouts are a number": (
        f"models: {{m: {{{OPENAI}, timeouts: 5}}}}",
        "headgate.yaml:1: models.m.timeouts: must be a mapping of settings",
    ),
    "hedge": (
        f"models: {{m: {{{OPENAI}, hedge: {{after: p9}}}}}}",
        "headgate.yaml:1: models.m.hedge.after: must be `p95`, or a duration like 800ms",
    ),
    "model is text": (
        "models: {m: openai}",
        "headgate.yaml:1: models.m: must be a mapping of settings; say what answers: "
        '"backend: NAME" (openai, gguf, folder, python), "folder: PATH", '
        '"python: MODULE:ATTRIBUTE", or several "targets: [...]"',
    ),
    "models are a list": ("models: [m]", "headgate.yaml:1: models: must be a mapping of models by name"),
    "model without a name": (
        f'models: {{"": {{{OPENAI}}}}}',
        'headgate.yaml:1: models."": a model needs a name',
    ),
    "control characters in a name": (
        f'models: {{"a\\nb": {{{OPENAI}}}}}',
        'headgate.yaml:1: models."a\\nb": a name must hold no control characters and no spaces around it',
    ),
    "long name": (
        f"models: {{{'a' * 257}: {{{OPENAI}}}}}",
        "headgate.yaml:1: models: a name of 257 characters; 256 at most",
    ),
    "no models": (
        "server: {}",
        "headgate.yaml:1: models: none declared; add at least one, such as "
        "models: {smollm2: {backend: gguf, weights: catalog:smollm2}}",
    ),
    "empty file": (
        "# nothing yet\n",
        "headgate.yaml: is empty; declare at least one model, such as "
        "models: {smollm2: {backend: gguf, weights: catalog:smollm2}}",
    ),
    "list of settings": (
        "- models",
        "headgate.yaml:1: must be a mapping of settings: server, models, aliases, accounts",
    ),
    "alias to nothing": (
        f"models: {{gpt-4o: {{{OPENAI}}}}}\naliases: {{gpt-4: gpt-4-o}}",
        'headgate.yaml:2: aliases.gpt-4: unknown model "gpt-4-o"; did you mean "gpt-4o"? known: gpt-4o',
    ),
    "alias that is a model": (
        f"models: {{a: {{{OPENAI}}}, b: {{{OPENAI}}}}}\naliases: {{a: b}}",
        "headgate.yaml:2: aliases.a: is the name of a model too; choose another alias or remove it",
    ),
    "alias that is no text": (
        f"models: {{a: {{{OPENAI}}}}}\naliases: {{b: [a]}}",
        "headgate.yaml:2: aliases.b: must be the name of a model",
    ),
    "account that is text": (
        f"models: {{a: {{{OPENAI}}}}}\naccounts: {{eu: x}}",
        "headgate.yaml:2: accounts.eu: must be a mapping of settings",
    ),
    "set twice": (
        f"models:\n  a: {{{OPENAI}}}\n  b: {{{OPENAI}}}\n  a: {{{OPENAI}}}\n",
        "headgate.yaml:4: models.a: set twice, first on line 2; remove one",
    ),
    "tag": (
        f"models:\n  a: {{{OPENAI}, description: !!python/object/apply:os.system [ls]}}",
        "headgate.yaml:2: models.a.description: tags like !!python/object/apply:os.system are not taken; "
        "remove it",
    ),
    "tag that does not fit": (
        f"models: {{a: {{{OPENAI}, weight: !!int x}}}}",
        "headgate.yaml:1: models.a.weight: tags like !!int are not taken; remove it",
    ),
    "name that is a list": (
        f"models:\n  a: {{{OPENAI}}}\n  ? [b]\n  : {{{OPENAI}}}",
        "headgate.yaml:3: models: a name must be plain text, not a list or a mapping",
    ),
    "merge of a text": (
        f"models: {{a: {{<<: x, {OPENAI}}}}}",
        "headgate.yaml:1: models.a: << must be given a mapping (*name), or a list of them",
    ),
    "reference without quotes": (
        "models:\n  a: {backend: openai, api_key: ${KEY}}",
        "headgate.yaml:2: not YAML: while parsing a flow mapping: expected ',' or '}', but got '{'; "
        'inside { } and [ ] put references in quotes: "${NAME}"',
    ),
    "tabs": (
        "models:\n\ta: 1",
        "headgate.yaml:2: not YAML: while scanning for the next token: found character '\\t' that cannot "
        "start any token; indent with spaces, not with tabs",
    ),
    "open quote": (
        'models: "x\n',
        "headgate.yaml:2: not YAML: while scanning a quoted scalar: found unexpected end of stream",
    ),
    "two documents": (
        "models: {}\n---\nmodels: {}\n",
        "headgate.yaml:2: not YAML: expected a single document in the stream: but found another document",
    ),
    "control character": (
        f"models: {{a: {{{OPENAI}}}}}\n# \x01",
        "headgate.yaml:2: not YAML: holds a control character",
    ),
    "character that does not exist": (
        'models: {"\\UFFFFFFFF": x}',
        "headgate.yaml: not YAML: an escape (\\U…) stands for no character",
    ),
    "half of a character": (
        f'models: {{"\\ud800": {{{OPENAI}}}}}',
        'headgate.yaml:1: models."\\ud800": a name must hold no control characters and no spaces around it',
    ),
    "alias that contains itself": (
        "models: &m\n  a: *m",
        "headgate.yaml:1: an alias (*name) that contains itself",
    ),
    "deep nesting": ("[" * 5000, "headgate.yaml: is nested too deeply"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_words_of_a_mistake(mistake: str) -> None:
    text, words = MISTAKES[mistake]
    assert mistakes(text) == [words]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    found = mistakes(
        f"""\
aliases: {{a: b, b: c, c: a}}
server: {{port: x, host: ""}}
models:
  m: {{{OPENAI}, weight: -1, retry: {{attempts: 0}}}}
  n: {{backend: nope}}
""",
        {"HEADGATE_GRACE": "soon"},
    )
    assert [line.partition(": must")[0].partition(": unknown")[0] for line in found] == [
        "HEADGATE_GRACE: server.grace",
        "headgate.yaml:1: aliases.a: goes round in a circle (a → b → c → a); name a model",
        "headgate.yaml:1: aliases.b: goes round in a circle (b → c → a → b); name a model",
        "headgate.yaml:1: aliases.c: goes round in a circle (c → a → b → c); name a model",
        "headgate.yaml:2: server.host",
        "headgate.yaml:2: server.port",
        "headgate.yaml:4: models.m.weight",
        "headgate.yaml:4: models.m.retry.attempts",
        "headgate.yaml:5: models.n.backend",
    ]


def test_mistakes_are_bounded() -> None:
    text = "models:\n" + "".join(f"  m{i}: {{backend: nope}}\n" for i in range(80))
    found = mistakes(text)
    assert len(found) == 51
    assert found[-1] == "headgate.yaml: and 30 more mistakes"


def test_aliases_that_multiply_are_refused() -> None:
    text = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    assert mistakes(text) == ["headgate.yaml: holds more than 200000 values, aliases included"]


def test_values_from_variables_are_never_shown() -> None:
    secret = "sk-very-secret"
    text = (
        'server: {port: "${S}", log_format: "${S}", max_body: "${S}", access_log: "${S}"}\n'
        f'models: {{m: {{{OPENAI}, weight: "${{S}}"}}, n: {{backend: "${{S}}"}}}}\n'
        'aliases: {a: "${S}"}\n'
    )
    found = mistakes(text, {"S": secret})
    assert len(found) == 7
    assert secret not in "\n".join(found)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"^nope\.yaml: there is no such file$"):
        load("nope.yaml", backends=BACKENDS)


def test_a_folder_for_a_file() -> None:
    Path("x.yaml").mkdir()
    with pytest.raises(
        ConfigError, match=r"^x\.yaml: is a folder, not a configuration; name the file in it$"
    ):
        load("x.yaml", backends=BACKENDS)


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"^headgate\.yaml: can't be read: permission denied$"):
        load("headgate.yaml", backends=BACKENDS)


def test_a_file_that_is_not_text() -> None:
    assert mistakes(b"# fine\nmodels: \xff\n") == [
        "headgate.yaml:2: is not UTF-8 text; save it in that encoding"
    ]


def test_a_file_that_is_too_large() -> None:
    assert mistakes("#" * 4_000_001) == ["headgate.yaml: is larger than 4 MB: not a configuration"]


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbf" + f"models: {{m: {{{OPENAI}}}}}".encode()).models


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't read {path}: no such file or directory"),
        (b"\xff", "{path} is not UTF-8 text"),
        (b"x" * 1_000_001, "key is larger than 1 MB: not a secret or a setting"),
    ],
)
def test_a_referenced_file_that_can_not_be_used(content: bytes | None, words: str) -> None:
    if content is not None:
        Path("key").write_bytes(content)
    expected = words.format(path=Path.cwd() / "key")
    assert mistakes(f'models: {{m: {{{OPENAI}, api_key: "${{file:key}}"}}}}') == [
        f"headgate.yaml:1: models.m.api_key: {expected}"
    ]


def test_a_backend_that_can_not_be_imported() -> None:
    Path("headgate.yaml").write_text("models: {m: {backend: broken}}")
    with pytest.raises(ConfigError) as caught:
        load("headgate.yaml", backends=Unloadable(), environ={})
    assert caught.value.message == (
        "headgate.yaml:1: models.m.backend: backend 'broken' can't be loaded: No module named 'x'"
    )


WORDS = st.sampled_from(
    [
        "server",
        "models",
        "aliases",
        "accounts",
        "m",
        "targets",
        "backend",
        "openai",
        "base_url",
        "timeouts",
        "port",
        "keys",
        "hash",
        "idle",
        "retry",
        "hedge",
        "${X",
        "${X}",
        "$$",
        "-1",
        "folder",
        "<<",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4)
)
SECTIONS = st.fixed_dictionaries(
    {}, optional={"server": TREES, "models": TREES, "aliases": TREES, "accounts": TREES}
)
MARKS = st.text("{}[]:,-&*!|>'\"%@`\n\t a1?#<~\\", max_size=40)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | (SECTIONS | TREES).map(yaml.safe_dump) | MARKS)
def test_whatever_is_written_is_taken_or_refused_in_words(text: str) -> None:
    try:
        parse(text.encode(errors="surrogatepass"))
    except ConfigError as error:
        assert error.message.startswith("headgate.yaml")
