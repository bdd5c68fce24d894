"""Logs: text for people, JSON lines for machines, never in the way of a request.

Whoever logs only appends to a bounded queue; one daemon thread formats and writes in batches. When its
stream is slow, full or broken, lines are dropped, counted and reported later: the server goes on.
"""

from __future__ import annotations

import atexit
import io
import itertools
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeAlias

import msgspec
from typing_extensions import override

from headgate.core.backend import RawHeaders
from headgate.core.call import Call

Format: TypeAlias = Literal["auto", "text", "json"]
Fields: TypeAlias = dict[str, Any]
Form: TypeAlias = Callable[[Any], bytes]
"""Makes a line, without its end, of `Fields`, a `CallLine` or a `RequestLine`."""

request_id_context: ContextVar[str] = ContextVar("headgate_request_id", default="")
"""Id of the request that the current task serves; every log record made there carries it."""

CAPACITY = 10_000
"""Lines that may wait for the writer. More are dropped and counted."""
_BATCH = 64  # lines formatted at a stretch: about 0.1 ms in which the event loop may wait for the interpreter
_GATHER = 0.05  # seconds in which lines gather into one write
_STALL = 1.0  # seconds that a full, non-blocking stream gets
_MAX_TEXT = 256  # of a value that a client chose

_ACCESS = "headgate.access"
_LOGGERS = ("headgate", "uvicorn", "asyncio", "opentelemetry", "py.warnings")
# Attributes of every record, and uvicorn's coloured twin of its message.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "color_message", "request_id"}

_COLOURS = {"DEBUG": 2, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 41}


class Writer:
    """A bounded queue and the thread that empties it into a stream.

    Args:
        stream: where lines go. Its file descriptor is written to directly where it has one, so that
            nothing stays behind in a buffer that fails again at the exit.
        notice: makes a line of a text, for the report of dropped lines.
    """

    def __init__(self, stream: TextIO, notice: Callable[[str], bytes], capacity: int = CAPACITY) -> None:
        self._refused = 0  # counted by those who log
        self._failed = 0  # counted by the thread
        self._stream = stream
        self._notice = notice
        self._capacity = capacity
        self._queue: deque[tuple[Callable[[Any], bytes], Any]] = deque()
        self._idle = False
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._reported = 0
        try:
            self._fd = stream.fileno()
        except (OSError, ValueError, io.UnsupportedOperation):
            self._fd = -1
        self._thread = threading.Thread(target=self._run, name="headgate-logs", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._refused + self._failed

    def put(self, form: Callable[[Any], bytes], item: Any) -> None:
        """Have `form(item)` written by the thread. Never blocks, never raises; any thread may call it."""
        if len(self._queue) >= self._capacity:
            self._refused += 1
            return
        self._queue.append((form, item))
        # The thread sets `_idle` before it looks at the queue for the last time: it sees the item, or we
        # see the flag. Waking a thread is dear, so it is done once for a batch.
        if self._idle:
            self._idle = False
            self._wake.set()

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for `timeout` seconds at most. Lines put later are not written."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._idle = True
            if not self._queue:
                if self._stop.is_set():
                    return
                self._wake.wait()
            self._idle = False
            self._wake.clear()
            self._stop.wait(_GATHER)
            while self._queue:
                self._write_batch()

    def _write_batch(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]
        lines: list[bytes] = []
        for form, item in batch:
            try:
                lines.append(form(item))
            except Exception as error:  # a log line must not end the log
                lines.append(self._notice(f"a log line could not be formatted: {type(error).__name__}"))
        missing = self.dropped - self._reported
        if missing:
            lines.append(
                self._notice(f"{missing} log lines were dropped: the log stream is too slow or broken")
            )
        lines.append(b"")
        try:
            self._write(b"\n".join(lines))
        except (OSError, ValueError):  # the disk is full, the reader has gone, the stream is closed
            self._failed += len(batch)
        else:
            self._reported += missing

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            self._stream.write(data.decode())
            self._stream.flush()
            return
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                if not select.select([], [self._fd], [], _STALL)[1]:
                    raise


class _QueueHandler(logging.Handler):
    """Hands records to the writer; texts and tracebacks are made there, off the loop."""

    def __init__(self, writer: Writer, form: Callable[[logging.LogRecord], bytes]) -> None:
        super().__init__()
        self._writer = writer
        self._form = form

    @override
    def emit(self, record: logging.LogRecord) -> None:
        # Here, as the arguments may change and the context is another one in the writer's thread.
        try:
            record.msg, record.args = record.getMessage(), None
        except Exception as error:
            record.msg, record.args = f"{record.msg!r} ({type(error).__name__} in its arguments)", None
        if not hasattr(record, "request_id"):
            record.request_id = request_id_context.get()
        self._writer.put(self._form, record)


class CallLine(msgspec.Struct, omit_defaults=True):
    """The access log's line for a model call. A struct costs two thirds of what a dict does."""

    time: str
    level: str
    logger: str
    request_id: str
    principal: str
    operation: str
    model: str
    dialect: str
    stream: bool
    status: int | None
    outcome: str | None
    attempts: int
    target: str | None = None
    duration_ms: float | None = None
    ttft_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class RequestLine(msgspec.Struct):
    """The access log's line for a request on any other route."""

    time: str
    level: str
    logger: str
    request_id: str
    principal: str
    method: str
    path: str
    status: int
    duration_ms: float


class AccessLog:
    """One line for each request. Never a prompt, a key or the values of a query string."""

    def __init__(self, writer: Writer, form: Form, enabled: bool) -> None:
        self._writer = writer
        self._form = form
        self._enabled = enabled

    def write(self, call: Call) -> None:
        """Log a call that ended. It is read later, by another thread: nobody changes it any more."""
        if self._enabled:
            self._writer.put(self._call, (time.time(), call))

    def request(
        self,
        method: str,
        path: str,
        status: int,
        duration: float,
        request_id: str = "",
        principal: str = "anonymous",
    ) -> None:
        """Log a request on a route other than a model call. `duration` in seconds."""
        if self._enabled:
            self._writer.put(
                self._request, (time.time(), method, path, status, duration, request_id, principal)
            )

    def _call(self, item: tuple[float, Call]) -> bytes:
        now, call = item
        attempts = call.attempts
        line = CallLine(
            _stamp(now),
            "info",
            _ACCESS,
            call.id,
            call.principal.name,
            call.operation,
            call.model[:_MAX_TEXT],
            call.dialect,
            call.stream,
            call.status,
            call.outcome,
            len(attempts),
        )
        if attempts:
            line.target = attempts[-1].target
        if call.ended is not None:
            line.duration_ms = _milliseconds(call.ended - call.started)
        if call.first_event is not None:
            line.ttft_ms = _milliseconds(call.first_event - call.started)
        if call.usage is not None:
            line.input_tokens = call.usage.input_tokens
            line.output_tokens = call.usage.output_tokens
        return self._form(line)

    def _request(self, item: tuple[float, str, str, int, float, str, str]) -> bytes:
        now, method, path, status, duration, request_id, principal = item
        line = RequestLine(
            _stamp(now),
            "info",
            _ACCESS,
            request_id,
            principal,
            method[:_MAX_TEXT],
            path.partition("?")[0][:_MAX_TEXT],
            status,
            _milliseconds(duration),
        )
        return self._form(line)


class Logs:
    """The logging that `setup` installed."""

    def __init__(self, writer: Writer, access: AccessLog, handler: logging.Handler, level: int) -> None:
        self.access = access
        self._writer = writer
        self._before: list[tuple[logging.Logger, list[logging.Handler], int, bool]] = []
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._before.append((logger, logger.handlers[:], logger.level, logger.propagate))
            logger.handlers[:] = [handler]
            logger.setLevel(
                level if name == "headgate" else max(level, logging.WARNING)
            )  # their chatter repeats ours
            logger.propagate = False
        # Uvicorn's own access log would repeat ours, with query strings.
        uvicorn = logging.getLogger("uvicorn.access")
        self._before.append((uvicorn, uvicorn.handlers[:], uvicorn.level, uvicorn.propagate))
        uvicorn.handlers[:] = [logging.NullHandler()]
        uvicorn.propagate = False
        logging.captureWarnings(True)
        atexit.register(self.close)

    @property
    def dropped(self) -> int:
        """Lines lost so far because the stream was too slow or broken."""
        return self._writer.dropped

    def close(self) -> None:
        """Write what waits and put logging back as it was. Blocks, for 2 s at most: not on the event loop."""
        atexit.unregister(self.close)
        logging.captureWarnings(False)
        for logger, handlers, level, propagate in self._before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
        self._before.clear()
        self._writer.close()


def setup(format: Format = "auto", level: str = "info", stream: TextIO | None = None) -> Logs:
    """Configure logging for the process.

    Args:
        format: `auto` is text on a terminal and JSON lines elsewhere.
        level: debug, info, warning or error. Access lines are `info`.
        stream: stderr when left out.
    """
    out = sys.stderr if stream is None else stream
    terminal = _is_terminal(out)
    number = logging.getLevelNamesMapping()[level.upper()]
    form: Form
    if format == "text" or (format == "auto" and terminal):
        form = TextFormat(colour=terminal and not os.environ.get("NO_COLOR"))
    else:
        form = json_line
    writer = Writer(out, notice=lambda text: form(_notice(text)))
    handler = _QueueHandler(writer, lambda record: form(record_fields(record)))
    return Logs(writer, AccessLog(writer, form, enabled=number <= logging.INFO), handler, number)


def record_fields(record: logging.LogRecord) -> Fields:
    """What a record says, its `extra` included, with the traceback as one text under `exception`."""
    fields: Fields = {
        "time": _stamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.msg,
    }
    request_id = getattr(record, "request_id", "")
    if request_id:
        fields["request_id"] = request_id
    for name, value in vars(record).items():
        if name not in _STANDARD and name not in fields:
            fields[name] = value
    if record.exc_info and record.exc_info[1] is not None:
        fields["exception"] = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def _notice(text: str) -> Fields:
    return {"time": _stamp(time.time()), "level": "warning", "logger": __name__, "message": text}


def json_line(line: Fields | CallLine | RequestLine) -> bytes:
    """One JSON object."""
    try:
        return _encoder.encode(line)
    except UnicodeEncodeError:  # half a surrogate pair, from a path or a model name
        return _encoder.encode({name: _utf8(value) for name, value in _fields(line).items()})


_encoder = msgspec.json.Encoder(enc_hook=str)


def _fields(line: Fields | CallLine | RequestLine) -> Fields:
    return dict(line) if isinstance(line, dict) else msgspec.structs.asdict(line)


class TextFormat:
    """Short, aligned lines for a terminal: time, level, message or request, then what else is known."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, line: Fields | CallLine | RequestLine) -> bytes:
        rest = _fields(line)
        clock = datetime.fromisoformat(rest.pop("time")).astimezone().strftime("%H:%M:%S")
        level = str(rest.pop("level")).upper()
        logger = rest.pop("logger")
        blocks = [str(rest.pop(name)) for name in ("exception", "stack") if name in rest]
        request_id = rest.pop("request_id", "")
        if logger == _ACCESS:
            text = _access_text(rest)
        else:
            text = _printable(rest.pop("message"))
            text += "".join(f" {name}={_printable(value)}" for name, value in rest.items())
        if request_id:
            text += f" id={_printable(request_id)}"
        name = f"{level:<7}"
        if self._colour:
            name = f"\033[{_COLOURS.get(level, 0)}m{name}\033[0m"
        # A traceback keeps its line breaks, but nothing that would drive the terminal.
        blocks = ["\n".join(map(_printable, block.splitlines())) for block in blocks]
        return "\n".join([f"{clock} {name} {text}", *blocks]).encode("utf-8", "backslashreplace")


def _access_text(rest: Mapping[str, Any]) -> str:
    what = f"{rest['method']} {rest['path']}" if "path" in rest else f"{rest['operation']} {rest['model']}"
    words = [_printable(what), str(rest["status"])]
    outcome = rest.get("outcome")
    if outcome not in (None, "ok"):
        words.append(str(outcome))
    if rest["duration_ms"] is not None:
        words.append(f"{rest['duration_ms']:g}ms")
    if rest.get("ttft_ms") is not None and rest["stream"]:
        words.append(f"first={rest['ttft_ms']:g}ms")
    if rest.get("input_tokens") is not None or rest.get("output_tokens") is not None:
        words.append(f"tokens={rest['input_tokens'] or 0}+{rest['output_tokens'] or 0}")
    if rest.get("target") is not None:
        words.append(f"target={_printable(rest['target'])}")
    if rest.get("attempts", 0) > 1:
        words.append(f"attempts={rest['attempts']}")
    words.append(f"key={_printable(rest['principal'])}")
    return " ".join(words)


def _printable(value: object) -> str:
    """One line, free of control characters: clients choose ids, names and paths, but not log lines."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _utf8(value: object) -> object:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


_second = (0, "")


def _stamp(now: float) -> str:
    """RFC 3339, UTC, to the millisecond. The last second's text is kept: a batch of lines shares it."""
    global _second
    whole = int(now)
    second, text = _second
    if second != whole:
        text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _second = (whole, text)
    return f"{text}.{int((now - whole) * 1000):03d}Z"


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


_SAFE_ID = re.compile(rb"[A-Za-z0-9._:=@/+~-]{1,128}")
_next_number = itertools.count(1).__next__
_process_prefix = ""


def _new_prefix() -> None:
    global _process_prefix
    _process_prefix = f"req_{os.urandom(8).hex()}"


_new_prefix()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_prefix)


def request_id(headers: RawHeaders | Sequence[tuple[bytes, bytes]]) -> str:
    """The caller's `x-request-id` where it is 1 to 128 harmless characters, otherwise a new id.

    New ids are unique across processes (64 random bits for each) and hold no secret: they count.
    """
    for name, value in headers:
        if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
            return value.decode("ascii")
    return f"{_process_prefix}{_next_number():08x}"
