"""One gateway before a scripted upstream of each dialect, and an official SDK for each dialect of callers.

A model is called `<vendor's dialect>-<scenario>`; what its upstream does is told by the header `x-scenario`
that the gateway's configuration adds.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

import pytest

from headgate.backends import registry as backends
from tests.e2e.sdk.clients import CLIENTS, KEY, Client
from tests.e2e.sdk.model import answer
from tests.e2e.sdk.said import SCENARIOS, THINKS, WEATHER, Said
from tests.e2e.sdk.vendors import VENDORS, Vendor
from tests.support.server import Running, settings_from
from tests.support.upstream import LAST_CHUNK, Drop, Seen, Step, Upstream, chunk, head, plain

RESPONSES_ROW = "tests.e2e.sdk.rows:RESPONSES"
STATUSES = (400, 401, 404, 429, 500, 529)
ABLE = "gpt-5-or-claude-sonnet-4-5-or-gemini-2.5"
"""Name of a model whose dialect follows; test suites look at names to see what a model can do."""
REFUSED = "no, because"


class Far:
    """A vendor on a real socket."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.go_on = threading.Event()
        self.upstream = Upstream(self._script)

    async def _script(self, seen: Seen) -> AsyncIterator[Step]:
        scenario = seen.headers["x-scenario"]
        if scenario.isdigit():
            body, fields = self.vendor.refusal(int(scenario), REFUSED)
            yield plain(int(scenario), body, *(["retry-after: 7"] if scenario == "429" else []), *fields)
            return
        if missing := self.vendor.lacks(seen.json):
            yield plain(400, self.vendor.refusal(400, f"{missing} is not specified")[0])
            return
        said = self._said(scenario, seen.json)
        if not self.vendor.streams(seen):
            yield plain(200, self.vendor.whole(said))
            return
        yield head(200, self.vendor.stream_type)
        events = self.vendor.events(said)
        if scenario in ("waits", "breaks", "cut"):
            first = 1 + next(at for at, event in enumerate(events) if b"Hel" in event)
            yield chunk(b"".join(events[:first]))
            yield self.go_on
            if scenario == "breaks":
                yield chunk(self.vendor.failure()) + LAST_CHUNK
            elif scenario == "cut":
                yield Drop()
            events = events[first:]
        for event in events:
            yield chunk(event)
        yield LAST_CHUNK

    def _said(self, scenario: str, body: dict[str, Any]) -> Said:
        if scenario == "obeys":
            return answer(self.vendor, body)
        if scenario == "agent":
            return WEATHER if self.vendor.results(body)[-1] == "result of get_weather" else THINKS
        called = SCENARIOS[scenario].calls and self.vendor.results(body)
        return WEATHER if called else SCENARIOS[scenario]

    def last(self) -> Seen:
        """The last request, checked against what the vendor takes."""
        seen = self.upstream.seen[-1]
        self.vendor.check(seen)
        return seen

    def model(self, scenario: str) -> dict[str, Any]:
        return {
            "backend": self.vendor.backend,
            **self.vendor.settings,
            "base_url": self.vendor.base_url(self.upstream.url),
            "model": self.vendor.model,
            "api_key": "vendor-key",
            "headers": {"x-scenario": scenario},
            "quota": f"{self.vendor.name}-{scenario}",  # so that one scenario's 429 is not another's
            "retry": {"attempts": 1},
        }


@pytest.fixture(scope="session")
def vendors() -> Iterator[dict[str, Far]]:
    with ExitStack() as stack:
        found = {name: Far(vendor) for name, vendor in VENDORS.items()}
        for far in found.values():
            stack.enter_context(far.upstream)
        yield found


@pytest.fixture(scope="session")
def gateway(vendors: dict[str, Far], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    scenarios = (*SCENARIOS, "agent", *map(str, STATUSES))
    models: dict[str, Any] = {
        f"{name}-{scenario}": far.model(scenario) for name, far in vendors.items() for scenario in scenarios
    }
    models |= {f"{ABLE}-{name}": far.model("obeys") for name, far in vendors.items()}
    models["double"] = {"backend": "scripted", "reply": "An answer in five pieces."}
    keys = [{"name": "sdk", "hash": f"sha256:{sha256(KEY.encode()).hexdigest()}"}]
    content = {"server": {"keys": keys, "max_body": "40MB"}, "models": models}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "BUILT_IN", {**backends.BUILT_IN, "scripted-responses": RESPONSES_ROW})
        with Running(settings_from(tmp_path_factory.mktemp("sdk"), content)) as running:
            yield running


@pytest.fixture(scope="session")
def clients(gateway: Running) -> Iterator[dict[str, Client]]:
    found = {name: kind(gateway.url) for name, kind in CLIENTS.items()}
    yield found
    for client in found.values():
        client.close()


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest, clients: dict[str, Client]) -> Client:
    return clients[request.param]


@pytest.fixture(params=list(VENDORS))
def far(request: pytest.FixtureRequest, vendors: dict[str, Far]) -> Far:
    found = vendors[request.param]
    found.go_on.clear()
    return found


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found
