"""What breaks at an upstream, as each SDK's own exception: before the answer, within it, when it is cut."""

from __future__ import annotations

import pytest

from tests.e2e.sdk.clients import CLIENTS, Client
from tests.e2e.sdk.conftest import REFUSED, STATUSES, Far
from tests.e2e.sdk.said import ASKS, HELLO
from tests.support.server import Running


@pytest.mark.parametrize("status", STATUSES)
def test_an_upstreams_error_is_the_sdks_own(client: Client, far: Far, stream: bool, status: int) -> None:
    with pytest.raises(Exception) as caught:
        client.ask(f"{far.vendor.name}-{status}", ASKS["text"], stream=stream)
    raised = client.raised(caught.value)
    assert raised.kind == client.classes[status]
    assert raised.status == status
    assert REFUSED in raised.message


def broken(client: Client, far: Far, scenario: str) -> tuple[list[str], str]:
    """The pieces that came, and the message of what was raised then."""
    pieces: list[str] = []

    def heard(piece: str) -> None:
        pieces.append(piece)
        far.go_on.set()

    client.heard = heard
    try:
        with pytest.raises(Exception) as caught:
            client.ask(f"{far.vendor.name}-{scenario}", ASKS["text"], stream=True)
    finally:
        client.heard = None
    return pieces, client.raised(caught.value).message


def test_an_error_within_a_stream_is_raised(client: Client, far: Far) -> None:
    pieces, message = broken(client, far, "breaks")
    assert pieces == [HELLO.pieces[0]]
    assert "Overloaded now" in message


def test_a_cut_stream_is_raised(client: Client, far: Far) -> None:
    pieces, message = broken(client, far, "cut")
    assert pieces == [HELLO.pieces[0]]
    assert "closed the connection" in message or "ended" in message


@pytest.mark.parametrize("name", list(CLIENTS))
def test_a_wrong_key_and_an_unknown_model(gateway: Running, clients: dict[str, Client], name: str) -> None:
    stranger = CLIENTS[name](gateway.url, "wrong-key")
    try:
        for client, model, status in ((stranger, "anthropic-text", 401), (clients[name], "nobody", 404)):
            for stream in (False, True):
                with pytest.raises(Exception) as caught:
                    client.ask(model, ASKS["text"], stream=stream)
                raised = client.raised(caught.value)
                assert (raised.kind, raised.status) == (client.classes[status], status)
                assert "wrong-key" not in raised.message
    finally:
        stranger.close()
