"""Compiles the mock upstream and the load generator, once for each state of their sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
BIN = SOURCES / "bin"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11")


class BenchError(Exception):
    """The benchmark can't run; the message says what is missing and what to do."""


def compiled(name: str) -> Path:
    """The program built from `bench/{name}.c`, up to date.

    Raises:
        BenchError: there is no C compiler, or it refuses the source.
    """
    source, program = SOURCES / f"{name}.c", BIN / name
    newest = max(path.stat().st_mtime_ns for path in (source, *SOURCES.glob("*.h")))
    if program.exists() and program.stat().st_mtime_ns >= newest:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BenchError("no C compiler: install gcc (apt-get install gcc libc6-dev)")
    BIN.mkdir(exist_ok=True)
    # Under another name first: two runs at once never see half a program.
    fresh = BIN / f"{name}.{os.getpid()}.new"
    result = subprocess.run([compiler, *FLAGS, "-o", str(fresh), str(source)], capture_output=True, text=True)
    if result.returncode != 0:
        raise BenchError(f"{compiler} can't build bench/{name}.c:\n{result.stderr}")
    fresh.replace(program)
    return program
