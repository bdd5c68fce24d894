"""Logs: shapes of the lines, no way to forge or block, and what happens when the stream gives out."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typing_extensions import override

from headgate.core.call import Attempt, Call, Operation, Outcome, Principal, Usage
from headgate.observe import logs
from headgate.observe.logs import AccessLog, Format, Logs, TextFormat, Writer, json_line, request_id

log = logging.getLogger("headgate.test")


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


@contextmanager
def logging_to(stream: io.StringIO, format: Format = "json", level: str = "info") -> Iterator[Logs]:
    installed = logs.setup(format, level, stream)
    try:
        yield installed
    finally:
        installed.close()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def a_call(**changes: object) -> Call:
    call = Call("req_1", "gpt-4o", Operation.CHAT, "openai_chat", started=100.0, stream=True)
    call.principal = Principal("ci")
    call.attempts = [Attempt("eu", 100.0, 100.2, status=500), Attempt("us", 100.2, 101.0, status=200)]
    call.usage, call.outcome, call.status = Usage(12, 34), Outcome.OK, 200
    call.first_event, call.ended = 100.25, 101.5
    for name, changed in changes.items():
        setattr(call, name, changed)
    return call


# Records


def test_a_record_is_one_json_object_with_its_extras() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        log.warning("engine %s died", "smollm2", extra={"signal": 9})
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "headgate.test",
        "message": "engine smollm2 died",
        "signal": 9,
    }


def test_an_exception_is_one_field() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            log.exception("it broke")
    (line,) = lines(stream)
    assert line["message"] == "it broke"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: first\nsecond")


def test_the_request_id_comes_from_the_context_or_the_record() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        token = logs.request_id_context.set("req_a")
        log.info("inside")
        logs.request_id_context.reset(token)
        log.info("outside")
        log.info("given", extra={"request_id": "req_b"})
    assert [line.get("request_id") for line in lines(stream)] == ["req_a", None, "req_b"]


def test_arguments_are_read_when_logged() -> None:
    stream = io.StringIO()
    state = ["before"]
    with logging_to(stream):
        log.info("state %s", state)
        state[0] = "after"
    assert lines(stream)[0]["message"] == "state ['before']"


def test_wrong_arguments_do_not_raise() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        log.info("%d things", "no number")
    assert "TypeError in its arguments" in lines(stream)[0]["message"]


def test_a_value_without_a_json_form_is_written_as_text() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        log.info("x", extra={"what": Ellipsis, "half": "\ud800"})
    assert lines(stream)[0]["what"] == "Ellipsis"


def test_a_line_that_can_not_be_made_does_not_end_the_log() -> None:
    class Unprintable:
        @override
        def __str__(self) -> str:
            raise RuntimeError("no")

    stream = io.StringIO()
    with logging_to(stream):
        log.info("one", extra={"what": Unprintable()})
        log.info("two")
    assert [line["message"] for line in lines(stream)] == [
        "a log line could not be formatted: RuntimeError",
        "two",
    ]


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level: str, expected: int) -> None:
    stream = io.StringIO()
    with logging_to(stream, level=level) as installed:
        log.debug("d")
        log.warning("w")
        log.error("e")
        installed.access.write(a_call())
    assert len(lines(stream)) == expected


def test_what_libraries_log_and_warn_comes_along() -> None:
    stream = io.StringIO()
    with logging_to(stream), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("uvicorn.error").info("started")  # repeats what we say ourselves
        logging.getLogger("uvicorn.error").warning("odd", extra={"color_message": "\033[1modd"})
        logging.getLogger("uvicorn.access").info("GET /?key=secret")
        logging.getLogger("asyncio").error("a task failed")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    written = lines(stream)
    assert [line["logger"] for line in written] == ["uvicorn.error", "asyncio", "py.warnings"]
    assert "color_message" not in written[0]
    assert "secret" not in stream.getvalue()


def test_close_puts_logging_back() -> None:
    def state() -> list[object]:
        return [
            (logger.handlers[:], logger.level, logger.propagate)
            for logger in map(logging.getLogger, ("headgate", "uvicorn", "uvicorn.access"))
        ]

    before = state()
    with logging_to(io.StringIO()):
        assert state() != before
    assert state() == before


# Text


def text_of(make: Callable[[], None], stream: io.StringIO) -> str:
    with logging_to(stream, "auto"):
        make()
    return stream.getvalue()


def test_auto_is_text_with_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[32mINFO   \033[0m ready" in text_of(lambda: log.info("ready"), Terminal())


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = text_of(lambda: log.info("ready", extra={"port": 8080}), Terminal())
    assert text.endswith(" INFO    ready port=8080\n")
    assert "\033" not in text


def test_auto_is_json_elsewhere_and_text_can_be_asked_for() -> None:
    assert text_of(lambda: log.info("ready"), io.StringIO()).startswith("{")
    stream = io.StringIO()
    with logging_to(stream, "text"):
        log.info("ready")
    assert stream.getvalue().endswith(" INFO    ready\n")


def test_text_shows_a_traceback_on_its_own_lines() -> None:
    stream = io.StringIO()
    with logging_to(stream, "text"):
        try:
            raise ValueError("red: \033[31m")
        except ValueError:
            log.exception("it broke")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR   it broke")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: red: \\x1b[31m"


# Access log


def access(form: Callable[[Any], bytes], write: Callable[[AccessLog], None]) -> str:
    stream = io.StringIO()
    writer = Writer(stream, notice=str.encode)
    write(AccessLog(writer, form, enabled=True))
    writer.close()
    return stream.getvalue()


def test_a_calls_line() -> None:
    line = json.loads(access(json_line, lambda log: log.write(a_call())))
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "headgate.access",
        "request_id": "req_1",
        "principal": "ci",
        "operation": "chat",
        "model": "gpt-4o",
        "dialect": "openai_chat",
        "stream": True,
        "status": 200,
        "outcome": "ok",
        "attempts": 2,
        "target": "us",
        "duration_ms": 1500.0,
        "ttft_ms": 250.0,
        "input_tokens": 12,
        "output_tokens": 34,
    }


def test_a_refused_calls_line_leaves_out_what_did_not_happen() -> None:
    call = a_call(attempts=[], usage=None, first_event=None, outcome=Outcome.REFUSED, status=429)
    line = json.loads(access(json_line, lambda log: log.write(call)))
    assert line["outcome"] == "refused"
    assert not {"target", "ttft_ms", "input_tokens"} & set(line)


def test_a_calls_line_as_text() -> None:
    text = access(TextFormat(colour=False), lambda log: log.write(a_call()))
    assert text.endswith(
        " INFO    chat gpt-4o 200 1500ms first=250ms tokens=12+34 target=us attempts=2 key=ci id=req_1\n"
    )
    failed = a_call(attempts=[], usage=None, first_event=None, outcome=Outcome.TIMEOUT, status=504)
    text = access(TextFormat(colour=False), lambda log: log.write(failed))
    assert text.endswith(" INFO    chat gpt-4o 504 timeout 1500ms key=ci id=req_1\n")


def test_a_requests_line_never_has_the_query_string() -> None:
    def write(log: AccessLog) -> None:
        log.request("GET", "/v1/models?key=secret", 200, 0.0125, "req_2", "ci")

    line = json.loads(access(json_line, write))
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "headgate.access",
        "request_id": "req_2",
        "principal": "ci",
        "method": "GET",
        "path": "/v1/models",
        "status": 200,
        "duration_ms": 12.5,
    }
    text = access(TextFormat(colour=False), write)
    assert text.endswith(" INFO    GET /v1/models 200 12.5ms key=ci id=req_2\n")


@pytest.mark.parametrize("nasty", ["x\n00:00:00 INFO forged", "\033[2J", "\x9b2J", "\u2028", "\ud800", "\r"])
def test_a_client_can_forge_no_line(nasty: str) -> None:
    call = a_call(model=nasty, id=nasty)
    for form in (json_line, TextFormat(colour=False)):
        text = access(form, lambda log: log.write(call))
        assert text.count("\n") == 1
        assert "\033" not in text
    assert access(json_line, lambda log: log.request(nasty, f"/{nasty}", 404, 0.1)).count("\n") == 1


def test_a_clients_text_is_cut() -> None:
    assert len(access(json_line, lambda log: log.write(a_call(model="m" * 10_000)))) < 1000
    assert len(access(json_line, lambda log: log.request("GET", "/" + "p" * 10_000, 404, 0.1))) < 1000


# The writer, and streams that give out


class Gate(io.StringIO):
    """A stream whose writes wait until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.opened = threading.Event()

    @override
    def write(self, text: str) -> int:
        self.reached.set()
        assert self.opened.wait(30)
        return super().write(text)


def test_a_slow_stream_loses_lines_never_time() -> None:
    stream = Gate()
    writer = Writer(stream, notice=lambda text: b"! " + text.encode(), capacity=3)
    writer.put(str.encode, "first")
    assert stream.reached.wait(30)
    for number in range(10):
        writer.put(str.encode, f"line {number}")
    assert writer.dropped == 7
    stream.opened.set()
    writer.close(30)
    assert stream.getvalue().splitlines() == [
        *("first", "line 0", "line 1", "line 2"),
        "! 7 log lines were dropped: the log stream is too slow or broken",
    ]


def test_close_does_not_wait_for_ever() -> None:
    stream = Gate()
    writer = Writer(stream, notice=str.encode)
    writer.put(str.encode, "first")
    assert stream.reached.wait(30)
    writer.close(timeout=0)
    assert stream.getvalue() == ""
    stream.opened.set()


class Broken(io.StringIO):
    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.failed = threading.Event()

    @override
    def write(self, text: str) -> int:
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_stream_that_recovers_tells_what_is_missing() -> None:
    stream = Broken(failures=1)
    writer = Writer(stream, notice=lambda text: b"! " + text.encode())
    writer.put(str.encode, "lost")
    assert stream.failed.wait(30)
    writer.put(str.encode, "kept")
    writer.close(30)
    assert stream.getvalue().startswith("kept\n! 1 log lines were dropped")
    assert writer.dropped == 1


def test_a_closed_stream_is_survived() -> None:
    stream = io.StringIO()
    stream.close()
    with logging_to(stream) as installed:
        log.info("nobody reads this")
    assert installed.dropped == 1


def test_a_reader_that_goes_away_is_survived() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        writer = Writer(stream, notice=str.encode)
        writer.put(str.encode, "nobody reads this")
        writer.close(30)
        assert writer.dropped == 1


def test_a_full_non_blocking_pipe_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    line = "x" * 1000
    received = bytearray()

    def read() -> None:
        while data := os.read(reading, 65536):
            received.extend(data)

    with os.fdopen(writing, "w") as stream:
        writer = Writer(stream, notice=str.encode)
        reader = threading.Thread(target=read)
        for _ in range(500):  # more than a pipe holds
            writer.put(str.encode, line)
        reader.start()
        writer.close(30)
        assert writer.dropped == 0
    reader.join()
    os.close(reading)
    assert received == (line + "\n").encode() * 500


def test_many_threads_lose_nothing() -> None:
    stream = io.StringIO()
    writer = Writer(stream, notice=str.encode)

    def work(name: int) -> None:
        for number in range(200):
            writer.put(str.encode, f"{name}-{number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(30)
    assert sorted(stream.getvalue().split()) == sorted(f"{a}-{b}" for a in range(5) for b in range(200))


def test_the_last_lines_are_written_at_the_exit() -> None:
    program = (
        "import logging\n"
        "from headgate.observe import logs\n"
        "logs.setup('json')\n"
        "logging.getLogger('headgate').info('good-bye')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ended.stderr)["message"] == "good-bye"


# Request ids


def test_a_callers_id_is_kept() -> None:
    assert (
        request_id([(b"host", b"x"), (b"x-request-id", b"Root=1-5f:a/b+c~d@e_f.g")])
        == "Root=1-5f:a/b+c~d@e_f.g"
    )
    assert request_id([(b"x-request-id", b"x" * 128)]) == "x" * 128


@pytest.mark.parametrize(
    "bad", [b"", b"x" * 129, b"a b", b"a\nb", b"a\n", b'a"b', b"<script>", b"\xff", b"a,b", b"a\\"]
)
def test_a_harmful_id_is_replaced(bad: bytes) -> None:
    made = request_id([(b"x-request-id", bad)])
    assert made.startswith("req_")
    assert len(made) == 28


def test_new_ids_differ_here_and_in_other_processes() -> None:
    here = {request_id([]) for _ in range(1000)}
    assert len(here) == 1000
    program = "from headgate.observe.logs import request_id; print(request_id([]))"
    spawned = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert spawned.stdout.strip()[:20] != next(iter(here))[:20]


def test_a_forked_process_gets_a_prefix_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_process_prefix", logs._process_prefix)
    before = request_id([])
    logs._new_prefix()
    assert request_id([])[:20] != before[:20]
