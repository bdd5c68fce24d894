"""Where the gateway spends its time under load: `python -m bench.profile [SCENARIO]`.

Uses py-spy where it is installed: it samples from outside and changes nothing; time without the
interpreter lock is not in it. Otherwise cProfile: exact counts, but it makes every Python call dearer, so
read the order, not the times.
"""

from __future__ import annotations

import argparse
import pstats
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.build import BenchError
from bench.processes import Process
from bench.rig import Rig
from bench.run import choose_scenarios, choose_servers, say
from bench.scenarios import SCENARIOS, Scenario
from bench.servers import find_program
from bench.table import SUBJECT

TOP = 30


def hottest(folded: str, count: int = TOP) -> list[tuple[str, float]]:
    """Functions by their own share of the samples, from folded stacks (`outer;inner 12`, one a line)."""
    own: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, samples = line.rpartition(" ")
        if stack and samples.isdigit():
            own[stack.rsplit(";", 1)[-1]] += int(samples)
    total = own.total() or 1
    return [(name, samples / total) for name, samples in own.most_common(count)]


def _sampled(rig: Rig, scenario: Scenario, sampler: str) -> None:
    (server,) = choose_servers([SUBJECT])
    running = rig.start(server)
    assert running.process is not None
    out, log = rig.folder / "stacks", rig.folder / "py-spy.log"
    command = [sampler, "record", "--gil", "--nolineno", "--format", "raw", "--output", str(out)]
    command += [
        "--duration",
        str(round(scenario.seconds * rig.scale) or 1),
        "--pid",
        str(running.process.pid),
    ]
    with Process(command, core=rig.load_core, log=log) as recorder:
        rig.measure(scenario, running)
        recorder.popen.wait(60)
    if not out.exists():
        raise BenchError(f"py-spy recorded nothing:\n{recorder.last_words()}")
    for name, share in hottest(out.read_text(encoding="utf-8")):
        print(f"{share:6.1%}  {name}")


def _counted(rig: Rig, scenario: Scenario) -> None:
    (server,) = choose_servers([SUBJECT])
    out = rig.folder / "profile"
    running = rig.start(server, (sys.executable, "-m", "cProfile", "-o", str(out)))
    rig.measure(scenario, running)
    rig.stop(running)
    if not out.exists():
        raise BenchError("no profile was written: the server did not end in good order")
    pstats.Stats(str(out)).sort_stats("tottime").print_stats(TOP)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("scenario", nargs="?", default="requests", help=", ".join(s.name for s in SCENARIOS))
    options = parser.parse_args(arguments)
    try:
        (scenario,) = choose_scenarios([options.scenario])
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder, Rig(Path(folder), 3.0) as rig:
            sampler = find_program("py-spy")
            say(f"{SUBJECT} under {scenario.title}, with {'py-spy' if sampler else 'cProfile'}")
            if sampler:
                _sampled(rig, scenario, sampler)
            else:
                _counted(rig, scenario)
    except BenchError as error:
        say(f"bench: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
