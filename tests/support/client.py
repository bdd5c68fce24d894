"""A small blocking HTTP client over a raw socket: what it reads is what was sent, when it was sent."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found


class Connection:
    """One keep-alive connection to 127.0.0.1.

    Args:
        reads: bytes taken at a time; where they are few, the kernel is to hold little for us too.
    """

    def __init__(self, port: int, timeout: float = 10.0, *, reads: int = 65536) -> None:
        self.socket = socket.socket()
        if reads < 65536:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(("127.0.0.1", port))
        except BaseException:
            self.socket.close()
            raise
        self._reads = reads
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | list[Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        fields = {"host": "test", **(headers or {})}
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
            fields.setdefault("content-type", "application/json")
        if body is not None:
            fields.setdefault("content-length", str(len(body)))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def request(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | list[Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        self.send(method, path, body, headers)
        return self.answer()

    def answer(self) -> Answer:
        """The next answer, whole."""
        status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, self.body())
        return Answer(status, headers, self.exactly(int(headers.get("content-length", 0))))

    def head(self) -> tuple[int, dict[str, str]]:
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in head[1:] if line)
        return int(head[0].split(" ")[1]), {name.lower(): value for name, _, value in fields}

    def chunk(self) -> bytes | None:
        """The next HTTP chunk, or None at the end of the body."""
        size = int(self._until(b"\r\n"), 16)
        data = self.exactly(size + 2)[:-2]
        return data if size else None

    def body(self) -> bytes:
        """The rest of a chunked answer whose head was read."""
        parts = []
        while (part := self.chunk()) is not None:
            parts.append(part)
        return b"".join(parts)

    def closed(self) -> bool:
        """Has the server closed, with nothing more to read? Waits for the socket's timeout at most."""
        try:
            return not self._buffer and self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def _fill(self) -> None:
        data = self.socket.recv(self._reads)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._buffer += data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._fill()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._buffer) < size:
            self._fill()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | dict[str, Any] | list[Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    with Connection(port) as connection:
        return connection.request(method, path, body, headers)
