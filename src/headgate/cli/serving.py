"""`headgate serve`, `headgate check` and `headgate call`: the commands that need a configuration."""

from __future__ import annotations

import sys
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headgate.cli.exits import Exit, Failure
from headgate.cli.sources import load_settings, model_table, open_source
from headgate.cli.weights import fetch_missing, missing

if TYPE_CHECKING:
    from headgate.config.schema import Settings
    from headgate.core.backend import RawHeaders

_SOURCE_HELP = """SOURCE is a configuration (headgate.yaml), a custom-model folder, a folder of such folders,
    a model file (.onnx, .skops) or module:attribute; without it, the embedded models smollm2 and minilm."""


def _check_exposure(settings: Settings) -> None:
    from headgate.policy.keys import check_exposure

    server = settings.server
    check_exposure(server.host, keyed=bool(server.keys), allow_no_keys=server.allow_no_keys)


@click.command(short_help="Serve models over HTTP.")
@click.argument("source", required=False)
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", metavar="PORT", help="Port to listen on; 0 takes a free one.  [default: 8080]")
@click.option("--grace", metavar="DURATION", help="Time for requests under way on a stop.  [default: 30s]")
@click.option("--log-format", metavar="auto|text|json", help="auto: text on a terminal.  [default: auto]")
@click.option(
    "--log-level", metavar="debug|info|warning|error", help="Least severe message.  [default: info]"
)
@click.option("--allow-no-keys", is_flag=True, help="Listen beyond this machine without any key.")
@click.option("--offline", is_flag=True, help="Fetch nothing; refuse where weights are missing.")
@click.option("--keep-going", is_flag=True, help="Serve the other models when one is broken.")
@click.option("--watch", is_flag=True, help="Reload when the configuration's files change.")
def serve(
    source: str | None, allow_no_keys: bool, offline: bool, keep_going: bool, watch: bool, **given: str | None
) -> int:
    options = {name: value for name, value in given.items() if value is not None}
    if allow_no_keys:
        options["allow_no_keys"] = "true"
    opened = open_source(source, options)
    settings = opened.read()
    if watch and not opened.watchable:
        raise click.UsageError("--watch needs a configuration file as SOURCE: there is nothing else to watch")
    _check_exposure(settings)
    fetch_missing(settings, offline=offline, keep_going=keep_going)
    from headgate.server.run import serve as run

    return run(settings, source=opened, watched=watch, keep_going=keep_going, offline=offline)


serve.help = f"""Serve models over HTTP until a signal stops it.

    {_SOURCE_HELP}

    Options win over HEADGATE_* variables, and those over the configuration. The first Ctrl-C (or SIGTERM)
    stops accepting and lets requests under way end within the grace period; the second one cuts them off.
    SIGHUP reads the configuration again and goes by it, without a gap; a wrong one changes nothing.

    \b
    Examples:
      headgate serve
      headgate serve headgate.yaml --port 9000
      headgate serve ./my-model
      headgate serve mypackage.models:predict
    """


@click.command(short_help="Test a configuration without a port.")
@click.argument("source", required=False)
@click.option("--allow-no-keys", is_flag=True, help="Accept listening beyond this machine without any key.")
def check(source: str | None, allow_no_keys: bool) -> int:
    settings = load_settings(source, {"allow_no_keys": "true"} if allow_no_keys else {})
    _check_exposure(settings)
    absent = dict(missing(settings))
    try_out(settings, without=absent)
    click.echo(model_table(settings))
    for name, reference in absent.items():
        click.echo(
            f"{name} is not tested: its weights are not here yet (headgate pull {reference})", err=True
        )
    for alias, model in settings.aliases.items():
        click.echo(f"{alias} is another name for {model}")
    return Exit.OK


check.help = f"""Test a configuration without opening a port or fetching anything, and list its models.

    Your own models are loaded; those whose weights are not here yet are only named.

    {_SOURCE_HELP}

    Exit code 2 and a line for each mistake where something is wrong.

    \b
    Examples:
      headgate check headgate.yaml
      headgate check ./my-model
    """


def try_out(settings: Settings, without: Container[str]) -> None:
    """Build and start every backend, then stop them. Raises ConfigError that names all that fail.

    Models of `without` are left out.
    """
    import asyncio

    from headgate.server.build import build, start, stop

    models = {name: model for name, model in settings.models.items() if name not in without}

    async def start_and_stop() -> None:
        gateway = build(settings.model_copy(update={"models": models}), offline=True)
        await start(gateway)
        await stop(gateway)

    if models:
        asyncio.run(start_and_stop())


@click.command(short_help="Send one request through the server, with no port.")
@click.argument("request", metavar="[METHOD] PATH", nargs=-1, required=True)
@click.option("--data", metavar="TEXT|@FILE", help="Body: text, @FILE, or @- for standard input.")
@click.option(
    "--header", "headers", metavar="NAME:VALUE", multiple=True, help="A header field; may be repeated."
)
@click.option("--source", metavar="SOURCE", help="What is served.  [default: the embedded models]")
@click.option("--offline", is_flag=True, help="Fetch nothing; refuse where weights are missing.")
def call(
    request: tuple[str, ...], data: str | None, headers: tuple[str, ...], source: str | None, offline: bool
) -> int:
    """Send one request through the whole server, with no port, and print the body of the answer.

    METHOD is GET, or POST where there is --data. The body is JSON unless a content-type header says
    otherwise. Exit code 0 for an answer below 400, 4 for one of the 400s, 5 for one of the 500s.

    \b
    Examples:
      headgate call /v1/models
      headgate call /v1/embeddings --data '{"model": "minilm", "input": "hello"}'
      headgate call POST /models/wine/predict --source ./wine --data @rows.csv --header content-type:text/csv
    """
    *methods, path = request
    if len(methods) > 1 or not path.startswith("/"):
        raise click.UsageError(
            "give [METHOD] PATH, and a PATH that starts with /: headgate call GET /v1/models"
        )
    method = methods[0].upper() if methods else "GET" if data is None else "POST"
    body = read_body(data, "--data")
    fields = [_field(header) for header in headers]
    if data is not None and not any(name == b"content-type" for name, _ in fields):
        fields.append((b"content-type", b"application/json"))
    import asyncio

    settings = load_settings(source, {})
    fetch_missing(settings, offline=offline)
    return asyncio.run(_exchange(settings, method, path, body, fields))


async def _exchange(settings: Settings, method: str, path: str, body: bytes, headers: RawHeaders) -> int:
    from headgate.server.run import call as run

    status, _, chunks = await run(settings, method, path, body, headers)
    out = sys.stdout.buffer
    last = b"\n"
    async for chunk in chunks:
        out.write(chunk)
        out.flush()
        last = chunk[-1:] or last
    if last != b"\n":
        out.write(b"\n")
        out.flush()
    if status < 400:
        return Exit.OK
    click.echo(f"status {status}", err=True)
    return Exit.CALL_REFUSED if status < 500 else Exit.CALL_FAILED


def read_body(data: str | None, option: str) -> bytes:
    """What an option that takes TEXT, @FILE or @- stands for. Raises Failure."""
    if data is None:
        return b""
    if not data.startswith("@"):
        return data.encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise Failure(f"{option} {data}: can't be read: {reason}", Exit.CONFIGURATION) from None


def _field(header: str) -> tuple[bytes, bytes]:
    name, colon, value = header.partition(":")
    try:
        field = name.strip().lower().encode("ascii"), value.strip().encode("latin-1")
    except UnicodeEncodeError:
        field = b"", b""
    if not colon or not field[0] or not header.isprintable():
        raise click.UsageError(f"--header takes NAME:VALUE of plain characters, such as {_HEADER_EXAMPLE}")
    return field


_HEADER_EXAMPLE = "x-request-id:1234"
