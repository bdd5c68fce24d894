"""The `headgate` command. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from headgate import __version__
from headgate.cli.exits import Exit, Failure
from headgate.cli.explain import explain
from headgate.cli.imports import import_
from headgate.cli.serving import call, check, serve
from headgate.cli.weights import models, pull
from headgate.core.errors import ConfigError, HeadgateError

_PACKAGES = ("xllamacpp", "onnxruntime", "tokenizers", "scikit-learn", "skops", "numpy", "uvicorn", "uvloop")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="headgate %(version)s")
def cli() -> None:
    """One server in front of every model a team has: remote APIs, local weights, your own Python.

    \b
    Quick start:
      headgate serve                   the embedded chat and embedding models
      headgate serve ./my-model        a folder with custom.py, a .onnx file, module:attribute
      headgate serve headgate.yaml     everything else

    \b
    Exit codes: 0 done, 1 unexpected, 2 configuration or usage, 3 weights can't be fetched,
    4 and 5 the status of `call`, 130 interrupted.
    """


@cli.command(short_help="Show versions.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the packages that engines use.")
def version(as_json: bool) -> int:
    """Show the version of Headgate and of Python and, with --json, of the packages that engines use."""
    python = ".".join(map(str, sys.version_info[:3]))
    if not as_json:
        click.echo(f"headgate {__version__} (Python {python}, {sys.platform})")
        return Exit.OK
    from importlib.metadata import distributions

    found = {(dist.name or "").lower(): dist.version for dist in distributions()}
    packages = {name: found.get(name) for name in _PACKAGES}
    shown = {"headgate": __version__, "python": python, "platform": sys.platform, "packages": packages}
    click.echo(json.dumps(shown, indent=2))
    return Exit.OK


@cli.command(short_help="Make a key for callers.")
@click.argument("name", default="default")
def key(name: str) -> int:
    """Make a key for callers: print it once, and the line for the configuration that holds its hash.

    NAME says who holds the key; it appears in logs.

    \b
    Example:
      headgate key ci
    """
    if not name.strip() or not name.isprintable():
        raise click.UsageError("NAME must not be empty or hold control characters: it is written to logs")
    from headgate.policy.keys import new_key

    secret, digest = new_key()
    click.echo("The key, shown this once; callers send it as 'Authorization: Bearer KEY':", err=True)
    click.echo(secret)
    click.echo("For the configuration, under server.keys:", err=True)
    click.echo(f"- {{name: {json.dumps(name, ensure_ascii=False)}, hash: {json.dumps(digest)}}}")
    return Exit.OK


for command in (serve, check, call, explain, import_, pull, models):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code. Mistakes become a message on stderr, never a traceback."""
    try:
        result = cli.main(args=arguments, prog_name="headgate", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Failure as failure:
        click.echo(failure.message, err=True)
        return failure.code
    except ConfigError as error:
        click.echo(error.message, err=True)
        return Exit.CONFIGURATION
    except HeadgateError as error:
        click.echo(error.message, err=True)
        return Exit.UNEXPECTED
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    return int(result or Exit.OK)


if __name__ == "__main__":
    sys.exit(main())
