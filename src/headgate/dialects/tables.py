"""Tables on the wire: JSON, CSV and multipart forms in, predictions as JSON out. No I/O.

The shapes of JSON that are understood, in this order:

* `[{"a": 1}, {"a": 2}]`: records, one object for each row, all with the same fields.
* `{"data": …}` as the only field: what is inside is read in its place (unless the model has a field
  `data` of its own).
* `{"columns": ["a"], "data": [[1], [2]]}`, perhaps with `index`: the split form of data frames.
* `{"a": [1, 2]}`: columns, if every value is an array.
* `{"a": 1}`: one record.

A field that the model declares as a list holds one list for each row, so that `{"values": [1, 2]}` is
one record of such a model, and `{"values": [[1, 2], [3]]}` its columns form.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from python_multipart.multipart import parse_options_header

from headgate.core.errors import InvalidData, InvalidRequest, UnsupportedMediaType
from headgate.core.operations import PredictResult, Table
from headgate.dialects import json_pieces
from headgate.dialects.delimited import decode_delimited
from headgate.dialects.multipart import decode_file

JSON_TYPE = "application/json"
CSV_TYPES = ("text/csv", "text/plain", "text/tab-separated-values")
FORM_TYPE = "multipart/form-data"
ACCEPTED = (JSON_TYPE, *CSV_TYPES, FORM_TYPE)
"""Content types of a table. A type that ends in `+json` counts as JSON."""

FORM_FIELD = "X"
"""The form field that holds the table."""

# Python knows more encodings than are fit for input from strangers (some are slow, some are no charsets), and
# it remembers every unknown name for ever: only these names are looked up.
_CHARSETS = re.compile(
    r"utf-?8|utf-?(16|32)(-?[lb]e)?|(us-)?ascii|latin-?[1-9]|iso-?8859-([1-9]|1[0134-6])|(windows-?|cp)125[0-8]|"
    r"cp(437|850|932|949)|big5|shift-?jis|sjis|euc-?(jp|kr)|gbk|gb2312|gb18030|koi8-[ru]"
)

_KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text"}


def decode(body: bytes, content_type: str | None, *, schema: Mapping[str, Any] | None = None) -> Table:
    """Read a table from a request body. Takes as long as the body is big: large ones belong in a thread.

    Args:
        content_type: the header's value. With none, JSON if the body starts like JSON, else CSV.
        schema: JSON Schema of one record, where the model has one. CSV columns declared as strings stay
            text; fields declared as arrays hold one list for each row; defaults stand for an empty record.

    Returns:
        The rows in their order, numbers at full precision. Missing values are None.

    Raises:
        UnsupportedMediaType: a content type or a charset that is not read.
        InvalidRequest: the body is not what its content type says.
        InvalidData: well-formed, but not a table: no data, ragged rows, a column twice.
    """
    kind, options = _media_type(content_type)
    if kind == FORM_TYPE:
        part = decode_file(body, options.get("boundary"), FORM_FIELD)
        kind, options = _media_type(part.content_type)
        if kind == "application/octet-stream":  # what form clients say when they don't know
            kind = ""
        if kind == FORM_TYPE:
            raise _unsupported(kind)
        body = part.data
    if not body.strip():
        raise InvalidData("no data: the body is empty")
    fields = _Fields(schema)
    if kind == JSON_TYPE or kind.endswith("+json") or (kind == "" and _looks_like_json(body)):
        return _decode_json(_as_utf8(body, options.get("charset")), fields)
    if kind in CSV_TYPES or kind == "":
        delimiter = _delimiter(options.get("delimiter"))
        if kind == "text/tab-separated-values":
            delimiter = delimiter or "\t"
        text = _text(body, options.get("charset"))
        return decode_delimited(text, delimiter=delimiter, texts=fields.texts)
    raise _unsupported(kind)


def encode(result: PredictResult) -> bytes:
    """`{"predictions": […]}`, and `extraModelOutput` where the model gave further columns.

    Numbers keep full precision. JSON has no NaN and no infinities: all three become null.
    """
    answer: dict[str, Any] = {"predictions": result.predictions}
    if result.extra is not None:
        answer["extraModelOutput"] = {
            "columns": result.extra.columns,
            "index": list(range(result.extra.rows)),
            "data": list(zip(*result.extra.data, strict=True)),
        }
    return msgspec.json.encode(answer)


class _Fields:
    """What a model's schema says about reading the wire."""

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        self.properties: Mapping[str, Any] = (schema or {}).get("properties", {})
        self.required: Sequence[str] = (schema or {}).get("required", ())
        self.texts = frozenset(name for name, field in self.properties.items() if _is(field, "string"))
        self.lists = frozenset(name for name, field in self.properties.items() if _is(field, "array"))

    def default_column(self) -> tuple[str, Any] | None:
        """A field and its default, where a record may leave out all fields."""
        if self.required:
            return None
        for name, field in self.properties.items():
            if "default" in field:
                return name, field["default"]
        return None


def _is(field: Mapping[str, Any], kind: str) -> bool:
    """Whether all that the field may hold is of this JSON Schema type, or null."""
    kinds: set[str] = set()
    for option in field.get("anyOf", [field]):
        declared = option.get("type", "any")
        kinds.update([declared] if isinstance(declared, str) else declared)
    return kinds - {"null"} == {kind}


def _media_type(content_type: str | None) -> tuple[str, dict[str, str]]:
    kind, options = parse_options_header((content_type or "").encode("latin-1", "replace").decode("latin-1"))
    return kind.decode("latin-1").strip(), {
        name.decode("latin-1"): value.decode("latin-1") for name, value in options.items()
    }


def _unsupported(kind: str) -> UnsupportedMediaType:
    shown = kind if len(kind) <= 100 and kind.isprintable() else "this"
    return UnsupportedMediaType(
        f"content type {shown} is not read here; send {', '.join(ACCEPTED[:-1])} or {ACCEPTED[-1]} "
        f"with a file field {FORM_FIELD!r}"
    )


def _delimiter(value: str | None) -> str | None:
    if value is None:
        return None
    delimiter = {"tab": "\t", "\\t": "\t"}.get(value.lower(), value)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise InvalidRequest("Content-Type: delimiter must be one character other than the quote, or `tab`")
    return delimiter


def _looks_like_json(body: bytes) -> bool:
    start = body[:64].removeprefix(codecs.BOM_UTF8).lstrip()
    return start.startswith((b"{", b"["))


def _text(body: bytes, charset: str | None) -> str:
    """Raises UnsupportedMediaType for an unknown charset, InvalidRequest for bytes that are not in it."""
    name = (charset or "utf-8").lower().replace("_", "-")
    if not _CHARSETS.fullmatch(name):
        raise UnsupportedMediaType("the charset in Content-Type is not known here; send UTF-8")
    try:
        return body.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        hint = "" if charset else "; if it is in another charset, say so: Content-Type: …; charset=…"
        raise InvalidRequest(
            f"the body is not {name.upper()}: byte {error.start} can't be decoded{hint}"
        ) from None


def _as_utf8(body: bytes, charset: str | None) -> bytes:
    if charset is None or charset.lower() in ("utf-8", "utf8"):
        return body.removeprefix(codecs.BOM_UTF8)
    return _text(body, charset).encode()


def _decode_json(body: bytes, fields: _Fields) -> Table:
    try:
        value = json_pieces.decode(body)
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not JSON: a text in it is not UTF-8") from None
    except RecursionError:
        raise InvalidRequest("the body is not a table: its JSON is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise InvalidRequest(
            f"the body can't be read as JSON: {error} (NaN and Infinity are not JSON; "
            "a missing value is null)"
        ) from None
    return _table_of(value, fields)


def _table_of(value: Any, fields: _Fields, *, nested: bool = False) -> Table:
    if isinstance(value, list):
        return _from_records(value, fields)
    if not isinstance(value, dict):
        raise InvalidData(
            f"the JSON body is {_kind(value)}; a table is a list of records, "
            "an object of columns, or one record"
        )
    if (
        not nested
        and value.keys() == {"data"}
        and "data" not in fields.properties
        and _is_table(value["data"])
    ):
        return _table_of(value["data"], fields, nested=True)
    if _is_split(value) and "columns" not in fields.properties:
        return _from_split(value["columns"], value["data"])
    if value and all(_is_column(name, cells, fields) for name, cells in value.items()):
        return _from_columns(value)
    return _from_records([value], fields)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _is_split(value: dict[str, Any]) -> bool:
    if not {"columns", "data"} <= value.keys() <= {"columns", "data", "index"}:
        return False
    columns, data = value["columns"], value["data"]
    return (
        isinstance(columns, list)
        and all(isinstance(name, str) for name in columns)
        and isinstance(data, list)
        and all(isinstance(row, list) for row in data)
    )


def _is_column(name: str, cells: Any, fields: _Fields) -> bool:
    if name in fields.lists:
        return isinstance(cells, list) and bool(cells) and all(isinstance(cell, list) for cell in cells)
    return isinstance(cells, list)


def _from_records(records: list[Any], fields: _Fields) -> Table:
    if not records:
        raise InvalidData("no data: the list of records is empty")
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise InvalidData(
                f'row {row} is {_kind(record)}, not an object; send [{{"column": value, …}}, …]',
                param=str(row),
            )
    names = records[0].keys()
    if not names and (default := fields.default_column()):
        name, value = default
        records = [{name: value} | record for record in records]
        names = records[0].keys()
    if not names:
        raise InvalidData("no data: the record is empty", param="0")
    for row, record in enumerate(records):
        if record.keys() != names:
            raise _ragged(row, record.keys() - names, names - record.keys())
    return Table(tuple(names), tuple([record[name] for record in records] for name in names))


def _ragged(row: int, more: set[str], fewer: set[str]) -> InvalidData:
    if fewer:
        name = min(fewer)
        return InvalidData(
            f"row {row} has no column {name!r}, which row 0 has; give every row the same columns, "
            "with null where a value is missing",
            param=f"{row}.{name}",
        )
    name = min(more)
    return InvalidData(
        f"row {row} has a column {name!r}, which row 0 has not; give every row the same columns",
        param=f"{row}.{name}",
    )


def _from_columns(columns: dict[str, list[Any]]) -> Table:
    first, rows = next((name, len(cells)) for name, cells in columns.items())
    for name, cells in columns.items():
        if len(cells) != rows:
            raise InvalidData(
                f"column {name!r} has {len(cells)} values, but column {first!r} has {rows}; "
                "all columns need the same number",
                param=name,
            )
    if not rows:
        raise InvalidData("no data: the columns are empty")
    return Table(tuple(columns), tuple(columns.values()))


def _from_split(columns: list[str], rows: list[list[Any]]) -> Table:
    if not columns or not rows:
        raise InvalidData("no data: `columns` and `data` need at least one column and one row")
    if len(set(columns)) < len(columns):
        raise InvalidData("`columns` holds a name more than once; each name may occur once", param="columns")
    for row, cells in enumerate(rows):
        if len(cells) != len(columns):
            raise InvalidData(
                f"row {row} has {len(cells)} values, but `columns` names {len(columns)}", param=f"data.{row}"
            )
    return Table(tuple(columns), tuple(list(cells) for cells in zip(*rows, strict=True)))


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a list" if isinstance(value, list) else "an object")
