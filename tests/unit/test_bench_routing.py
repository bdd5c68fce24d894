"""The benchmarks of failover and hedging: short runs against the real server, and what they say of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import failover, hedging
from bench.build import BenchError
from bench.mock import lasting_port
from bench.rig import Rig

CALM = failover.Window(
    kills=0,
    streams=4000,
    lost=0,
    told=0,
    untold=0,
    first_p50_ms=51.0,
    first_p99_ms=78.0,
    cpu_us=996.0,
    attempts=1.0,
    error="",
)
DISTURBED = replace(CALM, kills=30, told=1200, first_p99_ms=240.5, attempts=1.129)


def test_nobody_notices_a_kill_before_the_first_token(tmp_path: Path) -> None:
    found = failover.measure(tmp_path, streams=40, calm=1.0, disturbed=3.0, every=1.0)
    assert (found.calm.lost, found.calm.told, found.calm.untold) == (0, 0, 0), found.calm.error
    assert (found.disturbed.lost, found.disturbed.untold) == (0, 0), found.disturbed.error
    assert found.disturbed.kills == 3
    assert found.disturbed.told > 0, "the kills did nothing"
    assert found.disturbed.streams > found.disturbed.told
    assert found.calm.attempts == 1.0
    assert found.disturbed.attempts >= 1.0
    assert found.calm.cpu_us > 0


def test_hedges_stay_within_their_budget(tmp_path: Path) -> None:
    found = hedging.measure(tmp_path, rounds=1, seconds=0.8, connections=20)
    assert list(found) == list(hedging.KINDS)
    for each in found.values():
        (plain,), (hedged,) = each.plain, each.hedged
        assert plain.errors == hedged.errors == 0, plain.error or hedged.error
        assert plain.upstream_calls == plain.calls
        assert hedged.upstream_calls > hedged.calls, "nothing was hedged"
        assert each.within_budget


def test_a_mock_keeps_its_port_and_its_settings_when_it_comes_back(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        mock = rig.mock(lasting_port(), chunks=1)
        port = mock.port
        mock.set(slow=7)
        mock.kill()
        with pytest.raises(ConnectionRefusedError):
            mock.stats()
        mock.revive()
        assert (mock.port, mock.stats()["chats"]) == (port, 0)


def test_no_stream_is_lost_or_cut_without_a_word() -> None:
    assert failover.Comparison(CALM, DISTURBED).met
    assert failover.Comparison(CALM, DISTURBED).added_p99_ms == 162.5
    assert not failover.Comparison(CALM, replace(DISTURBED, lost=1)).met
    assert not failover.Comparison(replace(CALM, untold=1), DISTURBED).met


def test_the_table_of_failover() -> None:
    lines = failover.render(failover.Comparison(CALM, replace(DISTURBED, untold=2))).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["failover", "no kills", "30 kills", "goal"]
    assert ["errors before the first token", "0", "0", "0 ✓ ok"] in cells
    assert ["streams that broke after it, untold", "0", "2", "0 ✗ missed"] in cells
    assert ["added p99, ms", "", "+162.5", ""] in cells


def window(**changes: Any) -> hedging.Window:
    one = hedging.Window(
        calls=1000, upstream_calls=1000, p50_ms=50, p99_ms=1000, cpu_us=190, errors=0, error=""
    )
    return replace(one, **changes)


def test_hedging_must_pay() -> None:
    plain = [window(), window(p99_ms=900), window(p99_ms=5000)]
    good = hedging.Comparison(plain, [window(p99_ms=200, upstream_calls=1050)])
    assert (good.times, round(good.extra, 3), good.met) == (5.0, 0.05, True)
    assert not hedging.Comparison(plain, [window(p99_ms=201)]).met
    assert not hedging.Comparison(plain, [window(p99_ms=100, upstream_calls=1061)]).met
    assert not hedging.Comparison(plain, [window(p99_ms=100, errors=1)]).met


def test_the_table_of_hedging() -> None:
    kind = next(iter(hedging.KINDS))
    found = {kind: hedging.Comparison([window()], [window(p99_ms=250, upstream_calls=1049)])}
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in hedging.render(found).splitlines()
    ]
    assert ["… p99 lower by", "", "4.0×", "≥ 5 × ✗ missed"] in cells
    assert ["… upstream calls above the clients'", "0.00%", "4.90%", "≤ 5% ✓ ok"] in cells


@pytest.mark.parametrize("met", [True, False])
def test_a_missed_goal_is_no_success(
    met: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    after = DISTURBED if met else replace(DISTURBED, lost=1, error="status 502")
    monkeypatch.setattr(failover, "measure", lambda *_, **__: failover.Comparison(CALM, after))
    assert failover.main(["--json", str(file)]) == (0 if met else 1)
    assert ("**Error** status 502" in capsys.readouterr().out) is not met
    assert json.loads(file.read_text())["disturbed"]["told"] == 1200
    hedged = window(p99_ms=100 if met else 900, errors=0 if met else 2, error="status 500")
    monkeypatch.setattr(
        hedging, "measure", lambda *_, **__: {"plain": hedging.Comparison([window()], [hedged])}
    )
    assert hedging.main(["--json", str(file)]) == (0 if met else 1)
    assert ("**Error** plain: 2 of 1000 failed: status 500" in capsys.readouterr().out) is not met
    assert json.loads(file.read_text())["plain"]["hedged"][0]["calls"] == 1000


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BenchError("no C compiler: install gcc"), 2, "bench: no C compiler: install gcc"),
        (KeyboardInterrupt(), 130, "every process has been stopped"),
    ],
)
@pytest.mark.parametrize("bench", [failover, hedging])
def test_what_can_not_run_says_so(
    bench: Any,
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    measure: Callable[..., None] = fails
    monkeypatch.setattr(bench, "measure", measure)
    assert bench.main([]) == code
    assert words in capsys.readouterr().err
