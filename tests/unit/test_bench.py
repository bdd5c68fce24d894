"""The benchmark's own parts: its arithmetic, its data, its table, and the rig at work."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from bench import profile, run
from bench.build import BenchError
from bench.processes import cpu_clock_ns, family, parent_and_reaped, rss_bytes
from bench.rig import Rig, lag
from bench.scenarios import SCENARIOS, Scenario, request_body
from bench.servers import SERVERS, Server, prepare
from bench.table import ROWS as TABLE
from bench.table import Base, Goal, Row, added_latency, render, unsteady

# A proxy that copies bytes: what the rig needs of a server, and nothing more.
COPIER = """
import asyncio, sys

async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()

async def serve(reader, writer):
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", @upstream@)
    ways = [asyncio.create_task(copy(reader, up_writer)), asyncio.create_task(copy(up_reader, writer))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    up_writer.close()
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", @port@)
    await server.serve_forever()

asyncio.run(main())
"""


def stand_in(name: str = "nginx", program: str = COPIER) -> Server:
    return Server(
        name=name,
        program="python3",
        files={"server.py": program},
        command=("@program@", "@dir@/server.py"),
        remedy="none",
    )


def scenario(name: str) -> Scenario:
    return next(row for row in SCENARIOS if row.name == name)


# Arithmetic and data


def test_a_process_name_may_hold_anything() -> None:
    stat = "41 (a) b (c) S 7 41 41 0 -1 4194560 100 0 0 0 5 6 30 12 20 0 1 0 99"
    assert parent_and_reaped(stat) == (7, 42)


def test_the_cpu_clock_is_the_process_clock() -> None:
    before = time.process_time_ns()
    seen = cpu_clock_ns(os.getpid())
    assert before <= seen <= time.process_time_ns()


def test_a_family_is_the_process_and_its_descendants() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        pids = family(shell.pid)
        try:
            assert pids[0] == shell.pid
            assert len(pids) == 2
            assert rss_bytes(pids) > rss_bytes(pids[:1]) > 0
        finally:
            for pid in pids:
                os.kill(pid, 9)


@pytest.mark.parametrize("name", [row.name for row in SCENARIOS])
def test_bodies_have_the_size_they_claim(name: str) -> None:
    row = scenario(name)
    body = request_body(row)
    assert len(body) == row.body_bytes
    request = json.loads(body)
    assert request.get("stream", False) is row.streaming
    assert request["messages"][-1]["role"] == "user"


def test_added_latency_is_what_the_server_adds() -> None:
    direct = {"latency1.p50_us": 50.0, "latency1.p99_us": 70.0, "latency1.max_us": 90.0}
    through = {"latency1.p50_us": 150.0, "latency1.p99_us": 200.0, "latency1.cpu_us": 13.0}
    assert added_latency(through, direct) == {"latency1.added_p50_us": 100.0, "latency1.added_p99_us": 130.0}
    assert added_latency(through, {}) == {}


def test_rounds_that_lie_far_apart_are_reported() -> None:
    samples = {"nginx": {"cpu": [10.0, 12.9], "chunk": [10.0, 13.1], "start": [1.0, 9.0]}}
    assert unsteady(samples, ["nginx", "headgate"], ROWS) == ["nginx, chunk, µs: 10.0 to 13.1"]


BESIDE = Base("nginx", server="nginx")
ROWS = (
    Row("cpu", "CPU, µs", base=BESIDE, goal=Goal(100)),
    Row("chunk", "chunk, µs", base=BESIDE, goal=Goal(2, relative=True)),
    Row("other", "other, µs", base=Base("plain", metric="cpu"), goal=Goal(3, relative=True)),
    Row("start", "start, s", digits=2, goal=Goal(1)),
    Row("never", "never measured"),
)


def test_the_table_shows_medians_multiples_and_goals() -> None:
    samples = {
        "nginx": {"cpu": [13.0, 12.0, 50.0], "chunk": [10.0], "start": [0.02]},
        "headgate": {"cpu": [39.0], "chunk": [20.5], "start": [0.5]},
    }
    assert render(samples, ["nginx", "headgate"], ROWS).splitlines() == [
        "| chat      | nginx |     headgate | goal for headgate  |",
        "| --------- | ----: | -----------: | ------------------ |",
        "| CPU, µs   |  13.0 | 39.0 (3.00×) | ≤ 100 ✓ ok         |",
        "| chunk, µs |  10.0 | 20.5 (2.05×) | ≤ 2 × nginx ✗ over |",
        "| start, s  |  0.02 |         0.50 | ≤ 1 ✓ ok           |",
    ]


def test_the_table_says_nothing_of_what_was_not_measured() -> None:
    table = render({"headgate": {"chunk": [20.0]}}, ["headgate"], ROWS)
    assert table.splitlines()[2:] == ["| chunk, µs |     20.0 | ≤ 2 × nginx       |"]


def test_a_figure_may_stand_beside_another_of_the_same_server() -> None:
    samples = {"headgate": {"cpu": [40.0], "other": [100.0]}, "litellm": {"cpu": [50.0], "other": [200.0]}}
    assert render(samples, ["nginx", "headgate", "litellm"], ROWS[:1] + ROWS[2:3]).splitlines()[2:] == [
        "| CPU, µs   |     – |          40.0 |          50.0 | ≤ 100 ✓ ok        |",
        "| other, µs |     – | 100.0 (2.50×) | 200.0 (4.00×) | ≤ 3 × plain ✓ ok  |",
    ]
    alone = render({"headgate": {"other": [100.0]}}, ["headgate"], ROWS)
    assert alone.splitlines()[2:] == ["| other, µs |    100.0 | ≤ 3 × plain       |"]


def test_hottest_counts_the_innermost_function() -> None:
    folded = "main;serve;parse 30\nmain;serve 10\nmain;read;parse 60\nnot a stack\n"
    assert profile.hottest(folded, 2) == [("parse", 0.9), ("serve", 0.1)]


def test_a_row_is_filled_in(tmp_path: Path) -> None:
    launch = prepare(stand_in(program="up @upstream@ on @port@ in @dir@"), tmp_path, 81, 82)
    assert launch.command[1] == f"{tmp_path}/server.py"
    assert (tmp_path / "server.py").read_text() == f"up 82 on 81 in {tmp_path}"


def test_a_missing_server_says_what_to_install(tmp_path: Path) -> None:
    server = Server(name="envoy", program="no-such-envoy", command=(), remedy="func-e use 1.36")
    with pytest.raises(BenchError, match=r"^envoy is not installed: func-e use 1\.36$"):
        prepare(server, tmp_path, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--servers", "nignx"], "unknown server 'nignx': choose from nginx, headgate, haproxy, litellm"),
        (
            ["--only", "chunks", "--servers", "headgate"],
            "unknown scenario 'chunks': choose from idle, latency1",
        ),
    ],
)
def test_a_wrong_name_lists_the_right_ones(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_names_are_unique_and_known() -> None:
    servers, scenarios = {server.name for server in SERVERS}, {row.name for row in SCENARIOS}
    assert (len(servers), len(scenarios)) == (len(SERVERS), len(SCENARIOS))
    assert {name for row in SCENARIOS for name in row.servers or ()} <= servers
    named = {row.metric for row in TABLE} | {row.base.metric for row in TABLE if row.base and row.base.metric}
    assert {metric.partition(".")[0] for metric in named} <= scenarios | {"idle", "start", "import"}


def test_translated_chat_asks_for_models_that_its_servers_declare() -> None:
    rows = {row.name: row for row in SERVERS}
    translated = [row for row in SCENARIOS if row.servers is not None]
    assert {row.dialect.path for row in translated} == {"/v1/chat/completions", "/v1/messages"}
    for row in translated:
        for name in row.servers or ():
            assert any(row.model in text for text in rows[name].files.values())


# The rig, with a stand-in for a server


@pytest.mark.parametrize("name", ["latency1", "requests", "chunk50", "abort"])
def test_the_rig_measures_each_kind_of_load(name: str, tmp_path: Path) -> None:
    with Rig(tmp_path, scale=0.05) as rig:
        running = rig.start(stand_in())
        figures = rig.measure(scenario(name), running)
    assert figures.errors == ()
    assert figures.values[f"{name}.cpu_us"] > 0
    assert figures.values[f"{name}.per_second"] > 0
    assert ("chunk50.rss_mb" in figures.values) is (name == "chunk50")


def test_the_rig_leaves_no_process_behind(tmp_path: Path) -> None:
    affinity = os.sched_getaffinity(0)
    before, pids = set(family(os.getpid())), set[int]()
    with pytest.raises(KeyboardInterrupt), Rig(tmp_path) as rig:
        rig.start(stand_in())
        pids = set(family(os.getpid())) - before
        assert len(pids) == 2
        raise KeyboardInterrupt
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert os.sched_getaffinity(0) == affinity


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    broken = stand_in("broken", "raise SystemExit('bad port @port@')")
    with Rig(tmp_path) as rig, pytest.raises(BenchError, match=r"^broken ended after .* s:\nbad port \d+$"):
        rig.start(broken)


def test_a_server_that_keeps_streams_of_clients_that_left_is_told(tmp_path: Path) -> None:
    # Reads the upstream to the end, whatever became of its client.
    hoarder = COPIER.replace(
        "return_when=asyncio.FIRST_COMPLETED", "return_when=asyncio.ALL_COMPLETED"
    ).replace(
        "        writer.write(data)\n        await writer.drain()",
        "        if not writer.is_closing(): writer.write(data)",
    )
    with Rig(tmp_path, scale=0.05) as rig:
        figures = rig.measure(scenario("abort"), rig.start(stand_in("hoarder", hoarder)))
    assert any("upstream streams still open" in error for error in figures.errors)


def test_a_server_that_cannot_keep_up_is_told() -> None:
    assert lag(900, 1000) == ()
    assert lag(1898, 2110) == ("1,898 of 2,110 events relayed in the window: it can't keep up",)


def test_a_run_without_the_gateway_itself_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SERVERS", (stand_in("headgate", "raise SystemExit('no model')"),))
    assert run.main(["--quick", "--only", "idle"]) == 1
    assert "no model" in capsys.readouterr().out


def test_a_server_takes_part_in_what_it_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SERVERS", (stand_in(), stand_in("litellm")))
    file = tmp_path / "figures.json"
    assert run.main(["--quick", "--only", "to-openai,to-anthropic50", "--json", str(file)]) == 0
    samples = json.loads(file.read_text())["samples"]
    assert {metric.partition(".")[0] for metric in samples["nginx"]} == {"idle", "start"}
    assert samples["litellm"]["to-openai.cpu_us"][0] > 0
    assert samples["litellm"]["to-anthropic50.cpu_us"][0] > 0
    assert "**Error**" not in capsys.readouterr().out


def test_a_run_prints_its_table_and_keeps_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SERVERS", (stand_in(), stand_in("absent", "raise SystemExit('no')")))
    file = tmp_path / "figures.json"
    assert run.main(["--quick", "--only", "latency1", "--json", str(file)]) == 0, (
        "a peer's failure is a result"
    )
    out = capsys.readouterr().out
    assert "one round" in out
    assert "| added latency p50, µs" in out
    assert "**Error** absent ended" in out
    figures = json.loads(file.read_text())
    assert figures["servers"] == ["nginx"]
    assert len(figures["samples"]["nginx"]["latency1.added_p99_us"]) == 1
    assert figures["samples"]["nginx"]["idle.rss_mb"][0] > 1
