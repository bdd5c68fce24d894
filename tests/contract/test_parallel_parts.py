"""Parts that are open together, as some upstreams send parallel calls: callers read them in their order."""

from __future__ import annotations

import pytest

from headgate.core.events import ChatEvent, Finished, PartDelta, PartEnded, PartStarted, Started, Stop
from headgate.core.fold import fold
from headgate.core.messages import Text, ToolCall
from headgate.dialects.dialect import AnswerOptions, ChatDialect, Framing
from headgate.dialects.registry import dialect

CALLERS: list[tuple[str, Framing]] = [
    ("openai_chat", "sse"),
    ("openai_responses", "sse"),
    ("anthropic", "sse"),
    ("gemini", "sse"),
    ("gemini", "json_array"),
    ("converse", "eventstream"),
    ("invoke_nova", "sse"),
]
MANY = 5_000


def told(caller: str, framing: Framing, events: list[ChatEvent]) -> list[Text | ToolCall]:
    spoken = dialect(caller)
    assert isinstance(spoken, ChatDialect)
    encoder = spoken.stream_encoder(AnswerOptions(framing=framing))
    wire = b"".join([encoder.encode(event) for event in events])
    decoder = spoken.stream_decoder(spoken.stream_types[framing])
    parts = fold(decoder.feed(wire) + decoder.end()).choices[0].parts
    return [part for part in parts if isinstance(part, Text | ToolCall)]


def events_of(ends: list[int]) -> list[ChatEvent]:
    """A text, then calls; all are open before the first of them ends."""
    count = len(ends)
    return [
        Started("a", "m", 1),
        PartStarted(0, Text("")),
        PartDelta(0, "Well:"),
        *(PartStarted(index, ToolCall(f"c{index}", f"f{index}", "")) for index in range(1, count)),
        *(PartDelta(index, '{"n":', field="arguments") for index in range(1, count)),
        *(PartDelta(index, f"{index}}}", field="arguments") for index in reversed(range(1, count))),
        *(PartEnded(index) for index in ends),
        Finished((Stop("tool_calls"),)),
    ]


@pytest.mark.parametrize(("caller", "framing"), CALLERS)
@pytest.mark.parametrize("ends", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], ids=str)
def test_parts_keep_their_order_whichever_ends_first(caller: str, framing: Framing, ends: list[int]) -> None:
    text, *calls = told(caller, framing, events_of(ends))
    assert isinstance(text, Text)
    assert text.text == "Well:"
    assert [(call.name, call.arguments) for call in calls if isinstance(call, ToolCall)] == [
        (f"f{number}", f'{{"n":{number}}}') for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(("caller", "framing"), CALLERS)
def test_thousands_may_be_open_at_once(caller: str, framing: Framing) -> None:
    _, *calls = told(caller, framing, events_of(list(reversed(range(MANY)))))
    assert [call.name for call in calls if isinstance(call, ToolCall)] == [
        f"f{number}" for number in range(1, MANY)
    ]
