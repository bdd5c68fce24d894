"""What a scripted vendor is: one dialect's bodies, as the vendor's documentation shows them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from tests.e2e.sdk.said import Said
from tests.support.upstream import Seen


class Vendor(ABC):
    """Writes answers in one dialect, and reads what a request says."""

    name: ClassVar[str]
    backend: ClassVar[str]
    """Row of the registry."""
    settings: ClassVar[dict[str, Any]] = {}
    """What the row wants beside address and key."""
    model: ClassVar[str]
    """A model's real name there."""
    stream_type: ClassVar[str] = "text/event-stream"
    keeps_call_ids: ClassVar[bool] = True
    """Its calls have ids of their own on the wire."""

    def base_url(self, url: str) -> str:
        return url

    # Answers.

    @abstractmethod
    def whole(self, said: Said) -> dict[str, Any]: ...

    @abstractmethod
    def events(self, said: Said) -> list[bytes]:
        """A stream, cut into its events; those that tell text are one for each piece."""

    @abstractmethod
    def failure(self) -> bytes:
        """The vendor's way of saying "overloaded" within a stream."""

    @abstractmethod
    def refusal(self, status: int, message: str) -> tuple[dict[str, Any], list[str]]:
        """Body and header fields of an error."""

    # Requests.

    @abstractmethod
    def check(self, seen: Seen) -> None:
        """Path, key and body are as the vendor's own SDK would have them."""

    @abstractmethod
    def streams(self, seen: Seen) -> bool: ...

    @abstractmethod
    def results(self, body: dict[str, Any]) -> list[str]:
        """Texts of the tool results."""

    @abstractmethod
    def called(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Arguments of the calls of earlier turns."""

    @abstractmethod
    def images(self, body: dict[str, Any]) -> list[str]:
        """Base64."""

    @abstractmethod
    def tools(self, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Schemas by name."""

    @abstractmethod
    def schema(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """What the answer has to fit."""

    @abstractmethod
    def thinks(self, body: dict[str, Any]) -> bool:
        """Thinking is asked for."""

    @abstractmethod
    def signatures(self, body: dict[str, Any]) -> list[str]:
        """Of the model's own earlier thoughts."""

    @abstractmethod
    def system(self, body: dict[str, Any]) -> str: ...

    def lacks(self, body: dict[str, Any]) -> str | None:
        """The field without which the vendor refuses a request, if it is missing."""
        return None
