"""`python -m examples.failover`: the drill, its report on the terminal, and in a file where one is named."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.failover.drill import CALLERS, run
from examples.failover.report import as_json, as_markdown, complaints


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every caller is satisfied and the accounts agree; 1: not so; 2: Headgate did not start."""
    parser = argparse.ArgumentParser(prog="python -m examples.failover", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of the six phases")
    parser.add_argument("--callers", type=int, default=CALLERS, help="who ask at the same time")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write it there too: .md or .json")
    options = parser.parse_args(arguments)
    try:
        story = asyncio.run(run(options.seconds, options.callers))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    print(as_markdown(story))
    if options.report is not None:
        written = as_json if options.report.suffix == ".json" else as_markdown
        options.report.write_text(written(story), encoding="utf-8")
    return 1 if complaints(story) else 0


if __name__ == "__main__":
    sys.exit(main())
