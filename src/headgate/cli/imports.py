"""`headgate import`: another server's configuration as ours."""

from __future__ import annotations

import os
from pathlib import Path

import click

from headgate.cli.exits import Exit, Failure

_KINDS = ("litellm",)


@click.command("import", short_help="Turn another server's configuration into ours.")
@click.argument("kind", type=click.Choice(_KINDS), metavar="litellm")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write here, not to the screen."
)
@click.option("--force", is_flag=True, help="Write over --output where it exists.")
def import_(kind: str, file: Path, output: Path | None, force: bool) -> int:
    """Print the equivalent of another server's configuration, and name what has none on stderr.

    litellm: the config.yaml of LiteLLM's proxy. Keys stay references to the environment; nothing is sent.

    \b
    Examples:
      headgate import litellm config.yaml
      headgate import litellm config.yaml --output headgate.yaml && headgate check headgate.yaml
    """
    from headgate.config.document import read_plain
    from headgate.config.importers.litellm import read_litellm

    if output is not None and output.exists() and not force:
        raise Failure(f"{output} exists; name another file, or say --force", Exit.CONFIGURATION)
    imported = read_litellm(read_plain(file), os.environ)
    text = f"# Made from {file.name} by `headgate import {kind}`.\n{imported.yaml()}"
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise Failure(f"{output}: can't be written: {reason}", Exit.CONFIGURATION) from None
        click.echo(f"wrote {output}", err=True)
    for note in imported.notes:
        click.echo(f"{note.path}: {note.message}", err=True)
    return Exit.OK
