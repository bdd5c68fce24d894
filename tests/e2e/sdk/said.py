"""What is asked and what is answered, without any dialect: each client and each vendor has its own words."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.agent_payload import PNG

WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}},
    "required": ["city"],
    "additionalProperties": False,
}
PERSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PERSON = {"name": "Ada", "age": 36}
PROMPT = "What is it like?"
SYSTEM = "Be brief."
IMAGE = PNG
THOUGHT = "The map says so."
SIGNATURE = "RXFRQkNrWUlCeGdDS2tBPQ=="
"""Base64, as all vendors' signatures are."""
INPUT_TOKENS, OUTPUT_TOKENS = 12, 7


@dataclass(frozen=True)
class Call:
    id: str
    arguments: dict[str, Any]
    name: str = "get_weather"

    @property
    def city(self) -> str:
        return str(self.arguments["city"])


@dataclass(frozen=True)
class Said:
    """One answer of a model."""

    pieces: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    thought: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


HELLO = Said(("Hel", "lo ", "there!"))
ONE_CALL = Said(calls=(Call("call_a1", {"city": "Paris"}),))
TWO_CALLS = Said(("Let me look.",), (Call("call_a1", {"city": "Paris"}), Call("call_b2", {"city": "Oslo"})))
THINKS = Said(("Let me look.",), (Call("call_a1", {"city": "Paris"}),), THOUGHT)
JSON_TEXT = Said(tuple(json.dumps(PERSON, separators=(",", ":")).partition(",")))
WEATHER = Said(("It is ", "mild."))

SCENARIOS = {
    "text": HELLO,
    "image": HELLO,
    "waits": HELLO,
    "breaks": HELLO,
    "cut": HELLO,
    "tool": ONE_CALL,
    "tools": TWO_CALLS,
    "thinks": THINKS,
    "schema": JSON_TEXT,
}
"""What a model says first; once it has the results of its calls it says `WEATHER`."""


@dataclass(frozen=True)
class Ask:
    """What a caller wants, apart from the answer's form."""

    image: bool = False
    tools: bool = False
    schema: bool = False
    thinks: bool = False


ASKS = {
    "text": Ask(),
    "image": Ask(image=True),
    "tool": Ask(tools=True),
    "tools": Ask(tools=True),
    "thinks": Ask(tools=True, thinks=True),
    "schema": Ask(schema=True),
}


@dataclass
class Told:
    """One answer as a client's user sees it. `native` is what the next turn echoes."""

    text: str = ""
    pieces: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    thought: str = ""
    finish: str | None = None
    usage: tuple[int, int] | None = None
    losses: frozenset[str] = frozenset()
    native: Any = None


@dataclass
class Turn:
    """A turn of the model, and the results of its calls by their ids."""

    told: Told
    results: dict[str, str]


def losses_in(header: str | None) -> frozenset[str]:
    return frozenset(header.split(", ")) if header else frozenset()
