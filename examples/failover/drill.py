"""The drill: callers who go on asking while the upstreams fail, one phase after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from examples.failover.clients import AnthropicClient, Client, OpenAIClient, Reply, ask
from examples.failover.dialects import Anthropic, Gemini, OpenAI
from examples.failover.gateway import Account, Gateway
from examples.failover.upstreams import Books, Mood, Upstream

CALLERS = 20
PROMPT = "Where does the water go? "


@dataclass(frozen=True)
class Phase:
    """What is wrong for a while; upstreams that are not named are well."""

    title: str
    moods: Mapping[str, Mood] = field(default_factory=dict)


SCRIPT = (
    Phase("all are well"),
    Phase("openai is killed", {"openai": Mood.DEAD}),
    Phase("anthropic stalls too", {"openai": Mood.DEAD, "anthropic": Mood.STALLS}),
    Phase("openai is back, gemini says 429", {"anthropic": Mood.STALLS, "gemini": Mood.LIMITED}),
    Phase("anthropic is back, gemini is killed", {"gemini": Mood.DEAD}),
    Phase("all are back"),
)
"""None dies that stalls: where death and a caller's timeout fall together, each side sees its own first."""


@dataclass(frozen=True)
class Verdict:
    """Headgate's opinion of an upstream at the end of a phase: its place in the order, or why it had none."""

    place: int | None
    reason: str


@dataclass(frozen=True)
class Chapter:
    """What happened in one phase.

    Args:
        replies: that ended in it.
        failures: of Headgate's attempts at each upstream, by type of error.
    """

    phase: Phase
    replies: Sequence[Reply]
    failures: Mapping[str, Mapping[str, int]]
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True)
class Story:
    """All of it, and both sides' accounts at the end."""

    chapters: Sequence[Chapter]
    books: Mapping[str, Books]
    account: Account
    names: Mapping[str, str]
    """Of the upstreams, by target."""

    @property
    def replies(self) -> list[Reply]:
        return [reply for chapter in self.chapters for reply in chapter.replies]


async def run(seconds: float, callers: int = CALLERS, seed: int = 1) -> Story:
    """Play the script.

    Args:
        seconds: of each phase.

    Raises:
        RuntimeError: Headgate did not start; the message has its log.
    """
    upstreams = [Upstream(dialect, seed) for dialect in (OpenAI(), Anthropic(), Gemini())]
    async with AsyncExitStack() as stack:
        for upstream in upstreams:
            await stack.enter_async_context(upstream)
        addresses = {f"{upstream.name.upper()}_UPSTREAM": upstream.url for upstream in upstreams}
        gateway = stack.enter_context(Gateway(addresses))
        await gateway.ready()
        return await _Drill(gateway, upstreams, random.Random(seed)).play(seconds, callers)


class _Drill:
    def __init__(self, gateway: Gateway, upstreams: Sequence[Upstream], rng: random.Random) -> None:
        self._gateway = gateway
        self._upstreams = upstreams
        self._rng = rng
        self._replies: list[Reply] = []
        self._told = 0
        """Replies that are in a chapter already."""
        self._over = False

    async def play(self, seconds: float, callers: int) -> Story:
        names = await self._gateway.providers()
        clients: list[Client] = [OpenAIClient(self._gateway.url), AnthropicClient(self._gateway.url)]
        chapters = []
        async with asyncio.TaskGroup() as group:
            asking = [
                group.create_task(self._keep_asking(clients[number % len(clients)]))
                for number in range(callers)
            ]
            for phase in SCRIPT:
                before = await self._gateway.account(names)
                for upstream in self._upstreams:
                    await upstream.turn(phase.moods.get(upstream.name, Mood.WELL))
                await asyncio.sleep(seconds)
                if phase is SCRIPT[-1]:
                    self._over = True
                    await asyncio.gather(*asking)
                chapters.append(await self._chapter(phase, names, before))
        for client in clients:
            await client.close()
        await self._settled()
        account = await self._gateway.account(names)
        return Story(chapters, {each.name: each.books for each in self._upstreams}, account, names)

    async def _keep_asking(self, client: Client) -> None:
        speakers = [upstream.name for upstream in self._upstreams]
        while not self._over:
            prompt = PROMPT * self._rng.randint(1, 20)
            self._replies.append(await ask(client, prompt, self._rng.random() < 0.7, speakers))

    async def _chapter(self, phase: Phase, names: Mapping[str, str], before: Account) -> Chapter:
        replies, self._told = self._replies[self._told :], len(self._replies)
        verdicts = {
            names[each["target"]]: Verdict(each["place"], each["reason"])
            for each in await self._gateway.explain()
        }
        after = await self._gateway.account(names)
        failures = {
            name: {
                error: count
                for error, count in (after.targets[name].errors - before.targets[name].errors).items()
                if error
            }
            for name in after.targets
        }
        return Chapter(phase, replies, failures, verdicts)

    async def _settled(self) -> None:
        """An upstream hears of a caller that hung up a moment later than everybody else."""
        for _ in range(100):
            if all(upstream.books.settled for upstream in self._upstreams):
                return
            await asyncio.sleep(0.02)
