"""One file out of a multipart form (RFC 7578)."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from headgate.core.errors import InvalidData, InvalidRequest


@dataclass(frozen=True, slots=True)
class FilePart:
    """A field's bytes and the content type that the form gives it; None where it gives none."""

    data: bytes
    content_type: str | None


@dataclass(slots=True)
class _Collector:
    """Keeps the parts of one name; others pass by."""

    wanted: str
    found: list[FilePart] = field(default_factory=list)
    complete: bool = False
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _chunks: list[bytes] | None = None

    def on_part_begin(self) -> None:
        self._headers = {}
        self._chunks = None

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[bytes(self._header).strip().lower()] = bytes(self._value).strip()
        self._header.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if options.get(b"name", b"").decode("latin-1") == self.wanted:
            self._chunks = []

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._chunks is not None:
            self._chunks.append(data[start:end])

    def on_part_end(self) -> None:
        if self._chunks is not None:
            content_type = self._headers.get(b"content-type")
            self.found.append(
                FilePart(b"".join(self._chunks), content_type.decode("latin-1") if content_type else None)
            )

    def on_end(self) -> None:
        self.complete = True


def decode_file(body: bytes, boundary: str | None, name: str) -> FilePart:
    """The part called `name`. Other parts are skipped.

    Raises:
        InvalidRequest: no boundary, or the body is not the form that it claims to be.
        InvalidData: there is no such part, or more than one.
    """
    if not boundary:
        raise InvalidRequest("multipart/form-data: the Content-Type names no boundary")
    collector = _Collector(name)
    try:
        parser = MultipartParser(
            boundary.encode("latin-1"),
            {
                "on_part_begin": collector.on_part_begin,
                "on_header_field": collector.on_header_field,
                "on_header_value": collector.on_header_value,
                "on_header_end": collector.on_header_end,
                "on_headers_finished": collector.on_headers_finished,
                "on_part_data": collector.on_part_data,
                "on_part_end": collector.on_part_end,
                "on_end": collector.on_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise InvalidRequest("the multipart form is malformed") from None
    if not collector.complete:
        raise InvalidRequest("the multipart form is cut off: its last boundary is missing")
    if not collector.found:
        raise InvalidData(
            f"the form has no file field {name!r}; send the table as field {name!r}", param=name
        )
    if len(collector.found) > 1:
        raise InvalidData(f"the form has more than one field {name!r}; send one table", param=name)
    return collector.found[0]
