"""Where downloaded weights live, and how a file gets there: locked, verified, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from headgate.core.errors import ConfigError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

CHUNK = 1 << 20
_SAFE_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one file is. `total_bytes` is None while the other side has not said."""

    done_bytes: int
    total_bytes: int | None
    file: str


OnProgress = Callable[[Progress], None]


def cache_root(override: Path | None = None) -> Path:
    """`override`, else `$HEADGATE_CACHE`, else `$XDG_CACHE_HOME/headgate`, else `~/.cache/headgate`."""
    if override is not None:
        return override
    if own := os.environ.get("HEADGATE_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "headgate"
    return Path.home() / ".cache" / "headgate"


def safe_path(root: Path, *components: str) -> Path:
    """`root` and below it `components`, each a plain file name: letters, digits, `.`, `_`, `-` and `+`.

    Raises:
        ConfigError: a component could lead elsewhere (`..`, a separator, a leading dot).
    """
    for component in components:
        if not _SAFE_COMPONENT.fullmatch(component) or ".." in component:
            raise ConfigError(
                f"{component!r} can't be used as a file name in the cache: "
                "use letters, digits, '.', '_', '-' and '+', not starting with '.'"
            )
    return root.joinpath(*components)


def human_size(size: int) -> str:
    """Bytes as people read them, in powers of ten: `98.4 MB`."""
    if size < 1000:
        return f"{size} bytes"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 1000 or unit == "GB":
            break
    return f"{amount:.1f} {unit}"


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold `target`'s lock file: a second process that wants the same file waits here, then finds it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("a+b") as handle:
        if sys.platform == "win32":
            msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back


class PartFile:
    """`target` while it is being written: `target.part`, hashed on the way, renamed when it is right.

    What is on disk from an interrupted run is kept and hashed again, so that writing goes on at `size`.
    An exception leaves the part for the next try; `discard()` drops it.
    """

    def __init__(self, target: Path, source: str) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._source = source
        self._sha256 = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self.size = 0

    def __enter__(self) -> PartFile:
        try:
            self._file = self.path.open("a+b")
            self._file.seek(0)
            while block := self._file.read(CHUNK):
                self._sha256.update(block)
                self.size += len(block)
        except OSError as error:
            raise self._disk_error(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, block: bytes) -> None:
        try:
            self._open.write(block)
        except OSError as error:
            raise self._disk_error(error) from error
        self._sha256.update(block)
        self.size += len(block)

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes."""
        if size == self.size:
            return
        handle = self._open
        handle.flush()
        handle.truncate(size)
        handle.seek(0)
        self._sha256, self.size = hashlib.sha256(), 0
        while block := handle.read(CHUNK):
            self._sha256.update(block)
            self.size += len(block)

    def ensure_room(self, missing: int) -> None:
        """Raises ConfigError when the disk can't take `missing` more bytes."""
        free = shutil.disk_usage(self.path.parent).free
        if free < missing:
            raise ConfigError(
                f"not enough disk space for {self.target.name}: {human_size(missing)} needed, "
                f"{human_size(free)} free in {self.path.parent}; free some, or set HEADGATE_CACHE elsewhere"
            )

    def matches(self, sha256: str) -> bool:
        return self._sha256.hexdigest() == sha256

    def commit(self, sha256: str | None) -> None:
        """Check the digest, sync, and give the file its name in one step."""
        if sha256 is not None and not self.matches(sha256):
            found = self._sha256.hexdigest()
            self.discard()
            raise ConfigError(
                f"{self.target.name} from {self._source} has SHA-256 {found}, expected {sha256}: "
                "it was dropped; pull again, and if it stays so the source holds another file"
            )
        try:
            self._open.flush()
            os.fsync(self._open.fileno())
            self._open.close()
            self.path.replace(self.target)
        except OSError as error:
            raise self._disk_error(error) from error

    def discard(self) -> None:
        self._open.close()
        self.path.unlink(missing_ok=True)

    @property
    def _open(self) -> IO[bytes]:
        if self._file is None:
            raise RuntimeError("PartFile is used outside its with block")
        return self._file

    def _disk_error(self, error: OSError) -> ConfigError:
        if error.errno == errno.ENOSPC:
            return ConfigError(
                f"the disk is full while writing {self.target.name} from {self._source}: "
                f"free space in {self.path.parent} or set HEADGATE_CACHE elsewhere, then pull again to go on"
            )
        return ConfigError(f"can't write {self.path}: {error.strerror or error}")
