"""Looking at the configuration's files: what is looked at, and when a change is taken over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from headgate.backends.registry import Registry
from headgate.config import sources
from headgate.config.sources import Source, Stamps
from headgate.core.errors import ConfigError
from headgate.server.watch import watch

ONE = "models: {m: {backend: scripted, reply: '${file:./secret}'}}"


def source(path: Path, **options: str) -> Source:
    return Source(str(path), backends=Registry(), options=options)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("one")
    path = tmp_path / "headgate.yaml"
    path.write_text(ONE)
    return path


def changed(opened: Source) -> set[str]:
    """Names of the files that are not as they were read."""
    read = opened.read_stamps
    return {path.name for path, stamp in opened.stamps().items() if stamp != read[path]}


def test_the_file_and_those_it_refers_to_are_looked_at(config: Path) -> None:
    opened = source(config, port="7")
    assert opened.read().server.port == 7
    assert {path.name for path in opened.stamps()} == {"headgate.yaml", "secret"}
    assert changed(opened) == set()
    (config.parent / "secret").write_text("other")
    assert changed(opened) == {"secret"}
    opened.read()
    assert changed(opened) == set()
    config.write_text(ONE + " ")
    assert changed(opened) == {"headgate.yaml"}


def test_a_file_that_is_missing_is_looked_at_until_it_comes(config: Path) -> None:
    opened = source(config)
    (config.parent / "secret").unlink()
    with pytest.raises(ConfigError, match="secret"):
        opened.read()
    assert changed(opened) == set()
    (config.parent / "secret").write_text("there")
    assert changed(opened) == {"secret"}
    config.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        opened.read()
    assert opened.watchable
    config.write_text(ONE)
    assert changed(opened) == {"headgate.yaml"}


def test_a_link_that_is_swapped_is_a_change(config: Path) -> None:
    """As Kubernetes does with what it mounts: the file's own name never changes."""
    folder = config.parent
    (folder / "secret").unlink()
    for name in ("first", "second"):
        (folder / name).mkdir()
        (folder / name / "secret").write_text("same")
        os.utime(folder / name / "secret", ns=(1, 1))
    (folder / "data").symlink_to("first")
    (folder / "secret").symlink_to("data/secret")
    opened = source(config)
    opened.read()
    (folder / "next").symlink_to("second")
    (folder / "next").replace(folder / "data")
    assert changed(opened) == {"secret"}


def test_a_change_while_it_is_read_is_not_missed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = source(config)
    opened.read()

    def and_then_changed(*args: Any, **options: Any) -> Any:
        found = resolve(*args, **options)
        config.write_text(ONE + "  ")
        return found

    resolve = sources.resolve
    monkeypatch.setattr(sources, "resolve", and_then_changed)
    opened.read()
    assert changed(opened) == {"headgate.yaml"}


def test_what_is_no_file_can_not_be_watched(tmp_path: Path) -> None:
    (tmp_path / "custom.py").write_text("def predict(x: float) -> float:\n    return x\n")
    for name in (None, str(tmp_path)):
        opened = Source(name, backends=Registry(), options={})
        opened.read()
        assert not opened.watchable


class Over(Exception):
    """There is nothing more to find."""


class Steps(Source):
    """Finds what it is told to, look by look: a number for each state of the file, None where it is gone."""

    def __init__(self, looks: Sequence[int | None]) -> None:
        super().__init__(None, backends={}, options={})
        self._looks = list(looks)
        self.latest: int | None = 0
        self.was_read: int | None = 0

    @override
    def stamps(self) -> Stamps:
        if not self._looks:
            raise Over
        self.latest = self._looks.pop(0)
        return _stamps(self.latest)

    @property
    @override
    def read_stamps(self) -> Stamps:
        return _stamps(self.was_read)


def _stamps(state: int | None) -> Stamps:
    return {Path("f"): None if state is None else (state, 0, 0)}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("looks", "taken"),
    [
        ([0, 0, 0, 0], []),
        ([0, 1, 1, 1, 1], [1]),
        ([0, 1, 2, 3, 3, 3], [3]),  # while it is written
        ([1, 1, 2, 2, 2], [1, 2]),
        ([1, 1, 0, 0], [1, 0]),
        ([1, 0, 1, 0], []),
        ([None, None, None, 1, 1, 1], [None, 1]),
        ([None, 0, 0], []),  # it was only replaced
    ],
)
def test_a_change_is_taken_over_once_when_it_stands_still(
    looks: list[int | None], taken: list[int | None], fails: bool
) -> None:
    steps = Steps(looks)
    found: list[int | None] = []

    async def reload() -> None:
        found.append(steps.latest)
        steps.was_read = steps.latest
        if fails:
            raise ConfigError("it is wrong")

    with pytest.raises(Over):
        asyncio.run(watch(steps, reload, interval=0))
    assert found == taken
