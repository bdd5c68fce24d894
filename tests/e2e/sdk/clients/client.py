"""What a client is: one official SDK, used as its documentation says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tests.e2e.sdk.said import Ask, Told, Turn

KEY = "hg-sdk-key"


@dataclass(frozen=True)
class Raised:
    """An exception of the SDK: its class, and what it tells."""

    kind: str
    status: int | None
    message: str


class Client(ABC):
    name: ClassVar[str]
    dialect: ClassVar[str]
    classes: ClassVar[dict[int, str]]
    """The SDK's exception class for each status."""

    heard: Callable[[str], None] | None = None
    """Told of each piece of text as it comes."""

    @abstractmethod
    def __init__(self, url: str, key: str = KEY) -> None:
        """At the gateway of that URL."""

    def hear(self, pieces: list[str], text: str | None) -> None:
        if text:
            pieces.append(text)
            if self.heard is not None:
                self.heard(text)

    @abstractmethod
    def ask(self, model: str, ask: Ask, *, stream: bool, turn: Turn | None = None) -> Told:
        """With `turn`, the turn that follows it. A stream is read to its end."""

    @abstractmethod
    def raised(self, error: BaseException) -> Raised:
        """What the SDK made of an error. Raises what is none of its own."""

    @abstractmethod
    def close(self) -> None:
        """Leave no connection behind."""
