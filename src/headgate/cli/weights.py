"""`headgate pull` and `headgate models`, and the weights that a configuration needs before it is served."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from headgate.cli.exits import Exit, Failure
from headgate.cli.output import ProgressDisplay, table
from headgate.cli.sources import load_settings, model_table
from headgate.core.errors import ConfigError

if TYPE_CHECKING:
    from headgate.config.schema import Settings


def needed(settings: Settings) -> Iterator[tuple[str, str]]:
    """Model and weights reference of every target that has weights."""
    for name, model in settings.models.items():
        for target in model.targets:
            reference = getattr(target, "weights", None)
            if isinstance(reference, str):
                yield name, reference


def missing(settings: Settings) -> Iterator[tuple[str, str]]:
    """Those of `needed` that are not on this machine. Raises Failure for a reference that names nothing."""
    for model, reference in needed(settings):
        if not _is_here(model, reference):
            yield model, reference


def fetch_missing(settings: Settings, *, offline: bool, keep_going: bool = False) -> None:
    """Fetch what the models need and this machine lacks, saying what and how big.

    Raises:
        Failure: a reference names nothing, or weights can't be fetched, or may not (`offline`). With
            `keep_going` that is only said where other models are left.
    """
    for model, reference in needed(settings):
        try:
            if not _is_here(model, reference):
                _fetch(model, reference, offline)
        except Failure as failure:
            if not keep_going or len(settings.models) == 1:
                raise
            _announce(failure.message)


def _is_here(model: str, reference: str) -> bool:
    from headgate.local import catalog

    try:
        return catalog.locate(reference) is not None
    except ConfigError as error:
        raise Failure(f"models.{model}.weights: {error.message}", Exit.CONFIGURATION) from None


def _fetch(model: str, reference: str, offline: bool) -> None:
    from headgate.local import catalog

    try:
        with ProgressDisplay(sys.stderr) as display:
            catalog.ensure(reference, offline=offline, announce=_announce, progress=display)
    except ConfigError as error:
        raise Failure(f"models.{model}.weights: {error.message}", Exit.WEIGHTS) from None


def _announce(line: str) -> None:
    click.echo(line, err=True)


@click.command(short_help="Fetch weights.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def pull(names: tuple[str, ...]) -> int:
    """Fetch weights into the cache, resumed where a try was cut off, and check their SHA-256.

    NAME is a name of the catalog (`headgate models` lists them), hf:ORG/REPO/FILE, a URL, or a path.
    The cache is $HEADGATE_CACHE, or ~/.cache/headgate.

    \b
    Examples:
      headgate pull smollm2 minilm
      headgate pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf
    """
    from headgate.local import catalog
    from headgate.local.cache import cache_root, human_size

    for name in names:
        described = catalog.describe(name)
        found = catalog.locate(name)
        if found is None:
            size = "size not known yet" if described.size is None else human_size(described.size)
            _announce(f"fetching {described.name} ({size}) from {described.source} into {cache_root()}")
            try:
                with ProgressDisplay(sys.stderr) as display:
                    found = catalog.pull(name, progress=display)
            except ConfigError as error:
                raise Failure(error.message, Exit.WEIGHTS) from None
        click.echo(f"{described.name}: {found.path} ({human_size(found.size)})")
    return Exit.OK


@click.command(short_help="List models.")
@click.argument("source", required=False)
def models(source: str | None) -> int:
    """List the catalog and what of it is on this machine or, with SOURCE, the models of a configuration.

    SOURCE is whatever `headgate serve` takes.

    \b
    Examples:
      headgate models
      headgate models headgate.yaml
    """
    if source is not None:
        click.echo(model_table(load_settings(source, {})))
        return Exit.OK
    from headgate.local.cache import human_size
    from headgate.local.catalog import catalog

    rows = [
        (
            row.name,
            row.kind,
            human_size(row.size),
            row.licence,
            str(row.located() or "not fetched"),
            row.title,
        )
        for row in catalog()
    ]
    click.echo(table(("NAME", "KIND", "SIZE", "LICENCE", "ON THIS MACHINE", "TITLE"), rows))
    return Exit.OK
