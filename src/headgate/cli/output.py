"""Tables, and progress that suits a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from headgate.local.cache import Progress

_STEP_WITHOUT_TOTAL = 50_000_000


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart, without trailing spaces."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


class ProgressDisplay:
    """Shows how far each file is: a bar on a terminal, otherwise a line for each quarter.

    Call it with each `Progress`; leave its `with` block when all is done.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._file: str | None = None
        self._shown = 0
        self._bar: click._termui_impl.ProgressBar[int] | None = None

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, progress: Progress) -> None:
        if progress.file != self._file:
            self._begin(progress)
        if self._bar is None:
            self._line(progress)
        else:
            self._bar.update(progress.done_bytes - self._shown)
            self._shown = progress.done_bytes

    def _begin(self, progress: Progress) -> None:
        self._end()
        self._file, self._shown = progress.file, 0
        if self._stream.isatty() and progress.total_bytes:
            self._bar = click.progressbar(
                length=progress.total_bytes,
                label=progress.file,
                file=self._stream,
                update_min_steps=max(1, progress.total_bytes // 200),
            )
            self._bar.__enter__()

    def _line(self, progress: Progress) -> None:
        done, total = progress.done_bytes, progress.total_bytes
        step = max(1, total // 4) if total else _STEP_WITHOUT_TOTAL
        if done // step > self._shown // step:
            self._shown = done
            share = f"{100 * done // total} % of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
            click.echo(f"  {progress.file}: {share}", file=self._stream)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
