"""A scripted upstream that keeps its answers: OpenAI's Responses API as its reference describes it.

Create (kept, continued, in the background, in a conversation), retrieve, replay, delete, cancel, input items;
each for one account only, told apart by its key.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.upstream import LAST_CHUNK, SSE_HEAD, Drop, Seen, Step, chunk, plain
from tests.unit.responses.wire import Script as Events
from tests.unit.responses.wire import answer, message

ROUTE = "/v1/responses"


def refusal(text: str, **fields: Any) -> dict[str, Any]:
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
    return {"error": {**error, **fields}}


@dataclass
class Kept:
    account: str
    response: dict[str, Any]
    items: list[dict[str, Any]]
    events: list[bytes]


@dataclass
class NativeResponses:
    """A script for `Upstream`. What is worked on in the background ends when it is fetched after `finish`."""

    prefix: str = "resp_up"
    kept: dict[str, Kept] = field(default_factory=dict)
    go_on: threading.Event = field(default_factory=threading.Event)
    finish: threading.Event = field(default_factory=threading.Event)
    conversations: dict[str, str] = field(default_factory=dict)
    """Account by conversation."""
    breaks: bool = False
    """Streams are cut after the first word."""

    async def __call__(self, seen: Seen) -> AsyncIterator[Step]:
        account = seen.headers.get("authorization", "") + seen.headers.get("api-key", "")
        path = urlsplit(seen.path)
        _, _, rest = path.path.partition("/responses")
        query = {name: values[-1] for name, values in parse_qs(path.query).items()}
        if not rest:
            async for step in self._create(account, seen.json):
                yield step
            return
        identity, _, action = rest.removeprefix("/").partition("/")
        kept = self.kept.get(identity)
        if kept is None or kept.account != account:
            yield plain(404, refusal(f"Response with id '{identity}' not found."))
        elif seen.method == "DELETE":
            del self.kept[identity]
            yield plain(200, {"id": identity, "object": "response", "deleted": True})
        elif action == "cancel":
            if not kept.response["background"]:
                yield plain(400, refusal("Cannot cancel a synchronous response."))
                return
            kept.response["status"] = "cancelled"
            yield plain(200, kept.response)
        elif action == "input_items":
            items = kept.items if query.get("order") == "asc" else kept.items[::-1]
            page = items[: int(query.get("limit", 20))]
            yield plain(200, {"object": "list", "data": page, "has_more": len(page) < len(items)})
        elif query.get("stream") == "true":
            async for step in self._send(kept.events[int(query.get("starting_after", -1)) + 1 :]):
                yield step
        else:
            if kept.response["background"] and self.finish.is_set():
                kept.response["status"] = "completed"
            yield plain(200, kept.response, "openai-version: 2020-10-01", "x-ratelimit-limit-requests: 9")

    async def _create(self, account: str, body: dict[str, Any]) -> AsyncIterator[Step]:
        items: list[dict[str, Any]] = []
        previous = body.get("previous_response_id")
        if previous is not None:
            before = self.kept.get(previous)
            if before is None or before.account != account:
                text = f"Previous response with id '{previous}' not found."
                code = "previous_response_not_found"
                yield plain(400, refusal(text, param="previous_response_id", code=code))
                return
            items = [*before.items, *before.response["output"]]
        conversation = body.get("conversation")
        if conversation is not None and self.conversations.get(conversation) != account:
            yield plain(404, refusal(f"Conversation with id '{conversation}' not found."))
            return
        background = bool(body.get("background"))
        if background and body.get("store") is False:
            yield plain(400, refusal("Background requests need store.", param="store"))
            return
        kept = self._keep(account, body, items, background)
        if body.get("stream"):
            async for step in self._send(kept.events):
                yield step
            return
        yield plain(200, kept.response)

    def _keep(
        self, account: str, body: dict[str, Any], items: list[dict[str, Any]], background: bool
    ) -> Kept:
        identity = f"{self.prefix}_{len(self.kept):04}"
        text = body["input"]
        items = [*items, {"id": f"msg_in_{len(items)}", **message(text), "role": "user"}]
        fields = {
            "id": identity,
            "model": body["model"],
            "background": background,
            "previous_response_id": body.get("previous_response_id"),
        }
        response = answer(message(f"{len(items)} items."), **fields)
        events = Events().event(
            "response.created", response=response | {"status": "in_progress", "output": []}
        )
        events.message(0, f"{len(items)}", " items.")
        events.event("response.completed", response=dict(response))
        kept = Kept(account, response, items, events.sent)
        if background:
            response["status"] = "queued"
        if body.get("store") is not False:
            self.kept[identity] = kept
        return kept

    async def _send(self, events: list[bytes]) -> AsyncIterator[Step]:
        """With a pause behind the first word, for as long as `go_on` is not set."""
        yield SSE_HEAD
        for event in events:
            yield chunk(event)
            if b"output_text.delta" in event and json.loads(event.partition(b"data: ")[2])["delta"].isdigit():
                if self.breaks:
                    yield Drop()
                yield self.go_on
        yield LAST_CHUNK
