"""The drill of examples/failover, as a user runs it: every caller satisfied, every account in agreement."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from examples.failover import __main__ as drill
from examples.failover.clients import Reply
from examples.failover.dialects import Gemini, Tokens, text_of
from examples.failover.drill import Chapter, Phase, Story, Verdict
from examples.failover.gateway import Account, TargetAccount, read
from examples.failover.report import as_json, as_markdown, complaints
from examples.failover.upstreams import Books, Mood, Upstream

from tests.meta.tree import ROOT


def test_every_caller_is_satisfied_and_all_accounts_agree(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    ran = subprocess.run(
        [sys.executable, "-m", "examples.failover", "--seconds", "1", "--report", str(report)],
        cwd=ROOT,
        env={**os.environ, "PATIENCE": "1500ms"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "to the request and to the token" in ran.stdout
    found = json.loads(report.read_text())

    # The same once more, by other arithmetic than the report's own.
    replies = [reply for phase in found["phases"] for reply in phase["replies"]]
    assert len(replies) >= 20
    assert [reply for reply in replies if reply["complaint"] is not None] == []
    assert {(reply["sdk"], reply["stream"]) for reply in replies} == {
        (sdk, stream) for sdk in ("openai", "anthropic") for stream in (True, False)
    }
    assert found["headgate"]["calls"] == {"ok": len(replies)}
    spoke = Counter(reply["speaker"] for reply in replies)
    for name, books in found["upstreams"].items():
        told = found["headgate"]["targets"][name]
        refused = told["errors"].get("upstream_unreachable", 0)
        assert sum(told["outcomes"].values()) == books["received"] + refused
        assert told["outcomes"]["ok"] == books["answered"] == spoke[name]
        assert told["tokens"] == books["tokens"]
    attempts = sum(sum(told["outcomes"].values()) for told in found["headgate"]["targets"].values())
    assert attempts == sum(reply["attempts"] for reply in replies) > len(replies)

    # And the faults were there.
    assert found["upstreams"]["openai"]["cut"] > 0
    assert found["upstreams"]["anthropic"]["given_up"] > 0
    assert found["upstreams"]["gemini"]["limited"] > 0


def test_an_upstream_knows_of_every_request_that_it_was_sent() -> None:
    """Also of those that came while it died, and of those that nobody waited for."""

    async def main() -> Books:
        async with Upstream(Gemini(), seed=1) as upstream, asyncio.timeout(30):

            async def ask(mood: Mood) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                await upstream.turn(mood)
                reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
                writer.write(b"POST /models/m:generateContent HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
                return reader, writer

            for mood, status in ((Mood.WELL, b"200"), (Mood.LIMITED, b"429")):
                reader, writer = await ask(mood)
                assert (await reader.readuntil(b"\r\n")).split()[1] == status
                writer.close()
            reader, writer = await ask(Mood.STALLS)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            reader, writer = await ask(Mood.WELL)
            await upstream.turn(Mood.DEAD)  # before it has even seen that somebody is there
            assert await reader.read() == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", upstream.port)
            return upstream.books

    books = asyncio.run(main())
    assert books.tokens.input > 0
    assert replace(books, tokens=Tokens()) == Books(received=4, answered=1, limited=1, cut=1, given_up=1)


WELL = Reply("openai", True, "openai", "assistant#0", 1, Tokens(5, 7), 0.2)
"""What became of the one call of the story below."""


def story(*, reply: Reply = WELL, tokens: Tokens = WELL.tokens, calls: str = "ok") -> Story:
    account = Account(
        calls=Counter({calls: 1}),
        call_tokens=WELL.tokens,
        targets={
            "openai": TargetAccount(Counter(ok=1), Counter({"": 1}), tokens),
            "gemini": TargetAccount(Counter(upstream_error=1), Counter(upstream_unreachable=1)),
        },
    )
    chapter = Chapter(
        Phase("gemini is killed", {"gemini": Mood.DEAD}),
        [replace(reply, attempts=2)],
        {"openai": {}, "gemini": {"upstream_unreachable": 1}},
        {"openai": Verdict(1, "weight 1"), "gemini": Verdict(None, "its circuit is open")},
    )
    books = {"openai": Books(received=1, answered=1, tokens=WELL.tokens), "gemini": Books()}
    return Story([chapter], books, account, {"assistant#0": "openai", "assistant#1": "gemini"})


def test_the_report_tells_who_served_and_why() -> None:
    text = as_markdown(story())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["gemini is killed", "1", "1", "0", "1", "0", "1", "0.20", "0.20"] in rows
    assert ["", "gemini", "dead", "0", "1 × connection refused", "not asked: its circuit is open"] in rows
    assert ["requests that reached it", "1 / 1", "0 / 0", "✓"] in rows
    assert complaints(story()) == []
    assert json.loads(as_json(story()))["complaints"] == []


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (story(tokens=Tokens(5, 8)), "output tokens: 8 by Headgate, 7 by openai"),
        (story(reply=replace(WELL, complaint="APIError: cut")), "a caller (openai): APIError: cut"),
        (
            story(reply=replace(WELL, target="assistant#1")),
            "answers by gemini (x-headgate-target): 1 by",
        ),
        (story(reply=replace(WELL, tokens=Tokens(4, 7))), "input tokens: 5 by Headgate, 4 by the callers"),
        (story(calls="upstream_error"), "calls that did not: 1 by Headgate, 0 by the callers"),
    ],
)
def test_the_least_disagreement_is_told(
    told: Story, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(*_: Any) -> Story:
        return told

    assert any(words in complaint for complaint in complaints(told))
    monkeypatch.setattr(drill, "run", run)
    assert drill.main([]) == 1
    assert words in capsys.readouterr().out


def test_the_metrics_page_is_read_by_target_and_by_provider() -> None:
    page = """\
headgate_requests_total{dialect="openai_chat",model="assistant",outcome="ok",status="200"} 3.0
headgate_upstream_attempts_total{outcome="ok",target="assistant#0"} 3.0
headgate_upstream_tokens_total{target="assistant#0",type="input"} 15.0
headgate_upstream_tokens_total{target="assistant#0",type="output"} 21.0
gen_ai_client_operation_duration_seconds_count{error_type="",gen_ai_provider_name="openai"} 3.0
gen_ai_client_token_usage_sum{gen_ai_token_type="output"} 20.0
"""
    account = read(page, {"assistant#0": "openai"})
    openai = account.targets["openai"]
    assert (account.calls, account.call_tokens) == ({"ok": 3}, Tokens(0, 20))
    assert (openai.attempts, openai.errors, openai.tokens) == (3, {"": 3}, Tokens(15, 21))


def test_nobody_says_a_part_of_what_another_says() -> None:
    texts = [text_of(name) for name in ("openai", "anthropic", "gemini")]
    assert len({text.split(". ")[0] for text in texts}) == len({text.split(". ")[-1] for text in texts}) == 3
