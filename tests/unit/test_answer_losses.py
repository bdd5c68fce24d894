"""What of an answer only one dialect has, noted as events go by."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.core.call import Usage
from headgate.core.events import (
    Finished,
    FinishReason,
    PartCited,
    PartDelta,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.loss import Loss
from headgate.core.messages import Citation, Opaque, Part, Reasoning, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.answer_losses import MAX_NOTED, note, note_all, note_citation, note_sequence, note_stop
from tests.support.answer_table import BY_NAME, told


def noted(*events: Any, caller: str = "openai_chat", keeps_thoughts: bool = False) -> list[str]:
    losses: list[Loss] = []
    for event in events:
        note(event, caller, losses, keeps_thoughts=keeps_thoughts)
    return [loss.path for loss in losses]


def test_fields_of_an_answer_are_named_one_by_one_and_once() -> None:
    fields: dict[str, Any] = {
        "container": {"id": "c"},
        "usage": {"input_tokens": 9, "server_tool_use": {"web_search_requests": 1}, "speed": "fast"},
    }
    finished = Finished((Stop("stop"),), {"gemini": {"candidates": {"1": {"safetyRatings": [{"a": "b"}]}}}})
    events = (Started("i", "m", 1, {"anthropic": fields}), UsageReported(Usage(1), {"anthropic": fields}))
    assert noted(*events, finished) == [
        "container",
        "usage.server_tool_use",
        "usage.speed",
        "candidates[1].safetyRatings",
    ]
    assert noted(*events, caller="anthropic") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"a": None, "b": 0, "c": "", "d": [], "e": {"f": {"g": False}}, "h": [{"i": 0}]},
        {"service_tier": "default", "usage": {"service_tier": "standard", "inference_geo": "global"}},
        {"serviceTier": {"type": "default"}, "usageMetadata": {"trafficType": "ON_DEMAND"}},
        {"usageMetadata": {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}]}},
    ],
)
def test_what_says_nothing_or_goes_without_saying_is_no_loss(fields: dict[str, Any]) -> None:
    assert noted(Started("i", "m", 1, {"elsewhere": fields})) == []


def test_fields_of_parts_stand_at_the_callers_place_of_them() -> None:
    part = ToolCall("c", "f", "{}", extensions={"elsewhere": {"id": "fc_1", "caller": "x"}})
    event = PartStarted(2, part, 1)
    assert noted(event) == ["choices[1].parts[2].caller"]
    assert noted(event, caller="gemini") == ["candidates[1].content.parts[2].caller"]
    assert noted(PartStarted(2, part), caller="anthropic") == ["content[2].caller"]
    assert noted(event, caller="elsewhere") == []
    assert noted(PartStarted(0, Opaque("elsewhere", {"a": 1})), PartDelta(0, "x")) == []


def test_thoughts_may_be_handed_out_with_the_fields_of_their_origin() -> None:
    part: Part = Reasoning("a", origin="anthropic", extensions={"anthropic": {"x": 1}, "gemini": {"y": 1}})
    assert noted(PartStarted(0, part)) == ["choices[0].parts[0].x", "choices[0].parts[0].y"]
    assert noted(PartStarted(0, part), keeps_thoughts=True) == ["choices[0].parts[0].y"]


def test_what_of_a_citation_has_no_neutral_form() -> None:
    form: dict[str, Any] = {
        "type": "page_location",
        "cited_text": "q",
        "document_index": 0,
        "start_page_number": 3,
        "file_id": None,
    }
    citation = Citation("document", quote="q", source=0, extensions={"anthropic": form})
    path = "choices[0].parts[1].citations"
    assert noted(PartCited(1, citation), PartCited(1, citation)) == [f"{path}.start_page_number"]
    assert noted(PartStarted(1, Text("a", (citation,)))) == [f"{path}.start_page_number"]
    losses: list[Loss] = []
    note_citation(citation, "openai_chat", "p", ("quote", "title", "source"), losses)
    note_citation(citation, "anthropic", "p", ("quote",), losses)
    assert [loss.path for loss in losses] == ["p.citations.quote", "p.citations.source"]


@pytest.mark.parametrize(
    ("stop", "word", "read", "reason"),
    [
        (Stop("stop", native="STOP"), "end_turn", "stop", None),
        (Stop("stop"), "refusal", "refusal", None),
        (Stop("length", native="max_tokens"), "length", "length", None),
        (Stop("pause"), "stop", "stop", "'stop' is the nearest word"),
        (
            Stop("content_filter", 1, native="RECITATION"),
            "content_filter",
            "content_filter",
            "'content_filter' is the nearest word for the upstream's 'RECITATION'",
        ),
        (Stop("content_filter", native="RECITATION"), "RECITATION", "content_filter", None),
    ],
)
def test_why_an_answer_ended(stop: Stop, word: str, read: FinishReason, reason: str | None) -> None:
    losses: list[Loss] = []
    note_stop(stop, word, read, losses)
    assert losses == ([] if reason is None else [Loss(f"choices[{stop.choice}].stop", reason)])


def test_which_stop_sequence_was_hit() -> None:
    losses: list[Loss] = []
    note_sequence(Stop("stop"), losses)
    note_sequence(Stop("stop", 1, "END"), losses)
    assert [loss.path for loss in losses] == ["choices[1].stop.sequence"]


def test_a_whole_answer_is_noted_as_its_events_would_be_and_within_bounds() -> None:
    many: dict[str, Any] = {f"field_{number}": 1 for number in range(3 * MAX_NOTED)}
    part = Text("a", extensions={"gemini": {"partMetadata": {"a": "b"}}})
    result = ChatResult("i", "m", 1, (Choice(0, (part,), Stop("stop")),))
    losses: list[Loss] = []
    note_all(result, "anthropic", losses)
    assert losses == [Loss("content[0].partMetadata", "only gemini has this field")]
    note(Started("i", "m", 1, {"elsewhere": many}), "anthropic", losses)
    assert len(losses) == MAX_NOTED


@pytest.mark.parametrize(("upstream", "caller"), [("chat", "responses"), ("responses", "chat")])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_tier_that_served_it_is_told_across_openais_dialects(
    upstream: str, caller: str, stream: bool
) -> None:
    vendor = BY_NAME[f"openai_{upstream}"]
    body, losses = told(f"openai_{caller}", vendor, vendor.common["service tier"].told, stream)
    assert b'"service_tier":"flex"' in body
    assert not [loss for loss in losses if "service_tier" in loss.path]
    _, losses = told("anthropic", vendor, vendor.common["service tier"].told, stream)
    assert Loss("service_tier", "only openai has this field") in losses
