"""What choosing a target costs: `python -m bench.plan` prints µs of CPU for each request.

The whole of it: the plan, its execution's first step, and what the target's health learns from the call's
beginning, its first event and its end. No request is sent.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from time import thread_time_ns

from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
from headgate.core.call import Call, Operation
from headgate.routing.execute import Execution
from headgate.routing.health import Circuit
from headgate.routing.plan import plan
from headgate.routing.route import Balance, Route
from headgate.routing.target import Target

COUNTS = (1, 10, 100)
GOAL = 10.0
"""µs for each request with 10 targets."""
ROUNDS = 15
WAYS = (*(balance.value for balance in Balance), "affinity", "three_open")
"""Ways of balancing; and by weight with three circuits of ten open."""


class Requests:
    """Requests for a model with `count` targets, one after the other on a clock of its own."""

    def __init__(self, way: str, count: int) -> None:
        self._rng = rng = random.Random(count)
        backend = ScriptedBackend(ScriptedSettings(backend="scripted"))
        targets = [
            Target(f"model#{number}", backend, "scripted", weight=rng.choice((1.0, 2.0, 5.0)))
            for number in range(count)
        ]
        for number, target in enumerate(targets):
            target.health.in_flight = rng.randrange(10)
            target.health.streams.note(rng.uniform(0.2, 2.0))
            if way == "three_open" and number % 10 in (1, 4, 7):
                target.health.circuit = Circuit.OPEN
                target.health.opened_until = float("inf")
        balance = Balance(way) if way in list(Balance) else Balance.WEIGHT
        self.route = Route("model", tuple(targets), balance=balance)
        self._affinity = way == "affinity"
        self._now = 1000.0

    def serve(self, times: int) -> None:
        route, rng = self.route, self._rng
        for _ in range(times):
            self._now = now = self._now + 0.001
            call = Call("r", "model", Operation.CHAT, "openai_chat", now, stream=True, deadline=now + 600)
            if self._affinity:
                call.affinity = rng.getrandbits(64)
            execution = Execution(route, call, plan(route, call, now, rng), rng)
            health = execution.first(now).target.health
            sent = health.begun(now)
            health.answered(sent, now + 0.5, stream=True)
            health.succeeded(sent, now + 1.0)


def cpu_us(work: Callable[[int], None], times: int, rounds: int = ROUNDS) -> float:
    """Microseconds of this thread's CPU for one of `times`: the median of the rounds."""
    found = []
    for _ in range(rounds):
        begun = thread_time_ns()
        work(times)
        found.append((thread_time_ns() - begun) / times / 1000)
    return statistics.median(found)


def _nothing(times: int) -> None:
    """What `Requests.serve` does for a request beside routing: its envelope and the clock."""
    now = 1000.0
    for _ in range(times):
        now += 0.001
        Call("r", "model", Operation.CHAT, "openai_chat", now, stream=True, deadline=now + 600)


def measure(ways: Sequence[str], counts: Sequence[int], requests: int) -> dict[str, list[float]]:
    """For each way, µs with as many targets as `counts` says.

    Args:
        requests: in each round, with 10 targets; fewer with more of them.
    """
    envelope = cpu_us(_nothing, requests)
    found: dict[str, list[float]] = {}
    for way in ways:
        found[way] = []
        for count in counts:
            served = Requests(way, count)
            times = max(1, requests * 10 // max(10, count))
            served.serve(times // 10)
            found[way].append(cpu_us(served.serve, times) - envelope)
    return found


def render(found: dict[str, list[float]], counts: Sequence[int]) -> str:
    head = "| CPU per request, µs | " + " | ".join(f"{n} target{'s' if n > 1 else ''}" for n in counts) + " |"
    lines = [head, "|---|" + "--:|" * len(counts)]
    for way, figures in found.items():
        lines.append(f"| `{way}` | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured; 1: more than the goal."""
    parser = argparse.ArgumentParser(prog="python -m bench.plan", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, metavar="N", help="in each of 15 rounds")
    options = parser.parse_args(arguments)
    found = measure(WAYS, COUNTS, max(10, options.requests))
    print(render(found, COUNTS))
    worst = max(figures[COUNTS.index(10)] for figures in found.values())
    met = worst < GOAL
    print(f"\nWith 10 targets {worst:.1f} µs at most; the goal is {GOAL:g}: {'ok' if met else 'missed'}.")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
