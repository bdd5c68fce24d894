"""Tables on the wire: every way in gives the same rows in order; every mistake is a clear 4xx."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import HeadgateError, InvalidData, InvalidRequest, UnsupportedMediaType
from headgate.core.operations import PredictResult, Table
from headgate.dialects.tables import decode, encode

JSON = "application/json"
CSV = "text/csv"
SECRET = "s3cr3t-payload"


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in zip(*table.data, strict=True)]


def as_csv(table: Table, delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(table.columns)
    writer.writerows(
        [("true" if cell else "false") if isinstance(cell, bool) else cell for cell in row]
        for row in zip(*table.data, strict=True)
    )
    return out.getvalue().encode()


def as_form(data: bytes, content_type: str | None, name: str = "X", boundary: str = "b0und") -> bytes:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="rows"\r\n{kind}\r\n'
    return head.encode() + data + f"\r\n--{boundary}--\r\n".encode()


def text_schema(table: Table) -> Mapping[str, Any]:
    """What a model that declares its text columns says; the others are left to inference."""
    texts = [
        name
        for name, cells in zip(table.columns, table.data, strict=True)
        if any(isinstance(cell, str) for cell in cells)
    ]
    return {"properties": {name: {"type": "string"} for name in texts}}


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**80), 2**80)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    # A first column of one name keeps a generated row from being the header's stray byte order mark.
    names = ["id", *draw(st.lists(TEXT.filter(lambda name: name != "id"), max_size=3, unique=True))]
    rows = draw(st.integers(1, 5))
    kinds: list[st.SearchStrategy[Any]] = [INTEGERS, FLOATS, INTEGERS | FLOATS, TEXT, st.booleans()]
    columns = []
    for _ in names:
        cell = draw(st.sampled_from(kinds)) | st.none()
        columns.append(draw(st.lists(cell, min_size=rows, max_size=rows)))
    return Table(tuple(names), tuple(columns))


@given(tables())
def test_every_form_gives_the_same_rows_in_order(table: Table) -> None:
    rows = rows_of(table)
    schema = text_schema(table)
    records = json.dumps(rows).encode()
    columns = json.dumps(dict(zip(table.columns, table.data, strict=True))).encode()
    split = json.dumps({"columns": table.columns, "data": list(zip(*table.data, strict=True))}).encode()
    for body in (records, columns, split, b'{"data":' + records + b"}"):
        assert rows_of(decode(body, JSON, schema=schema)) == rows
    assert rows_of(decode(as_csv(table), "text/csv; delimiter=,", schema=schema)) == rows
    form = as_form(as_csv(table), "text/csv; delimiter=,")
    assert rows_of(decode(form, "multipart/form-data; boundary=b0und", schema=schema)) == rows


@given(st.lists(INTEGERS | FLOATS, min_size=1, max_size=20))
def test_numbers_in_csv_keep_type_and_every_digit(numbers: list[int | float]) -> None:
    table = decode(b"x\n" + "\n".join(map(repr, numbers)).encode(), CSV)
    assert list(map(repr, table.data[0])) == list(map(repr, numbers))


@given(st.lists(FLOATS, min_size=1))
def test_predictions_keep_every_digit(numbers: list[float]) -> None:
    assert json.loads(encode(PredictResult(numbers)))["predictions"] == numbers


@given(st.binary(max_size=200), st.sampled_from([None, JSON, CSV, "multipart/form-data; boundary=b"]))
def test_any_bytes_give_a_table_or_a_client_error(body: bytes, content_type: str | None) -> None:
    try:
        table = decode(body, content_type)
    except HeadgateError as error:
        assert 400 <= error.status < 500
    else:
        assert table.rows > 0


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_line_ends_and_delimiters_are_found(newline: str, delimiter: str) -> None:
    text = newline.join(['"a,;b"|c', '"x|""y"|1', '"two\nlines"|2', ""]).replace("|", delimiter)
    text = text.replace(f"x{delimiter}", "x|")
    table = decode(b"\xef\xbb\xbf" + text.encode(), CSV)
    assert table == Table(("a,;b", "c"), (['x|"y', "two\nlines"], [1, 2]))


def test_csv_types_are_found_column_by_column() -> None:
    body = b"i,f,mixed,na,b,zip,t,empty,phone\n1,1.5,1,NA,True,007,NA,,+49\n-2,.5,2e3,3,,12,x,,5\n"
    table = decode(body, "text/plain")
    assert dict(zip(table.columns, table.data, strict=True)) == {
        "i": [1, -2],
        "f": [1.5, 0.5],
        "mixed": [1, 2000.0],
        "na": [None, 3],
        "b": [True, None],
        "zip": ["007", "12"],
        "t": ["NA", "x"],
        "empty": [None, None],
        "phone": ["+49", "5"],
    }


def test_csv_columns_that_the_model_declares_as_text_stay_text() -> None:
    schema = {
        "properties": {
            "zip": {"type": "string"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "either": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        }
    }
    table = decode(b"zip,note,either\n12,1.50,1\n", CSV, schema=schema)
    assert rows_of(table) == [{"zip": "12", "note": "1.50", "either": 1}]


def test_a_table_saved_with_its_index_has_a_named_column() -> None:
    assert decode(b",a\n0,5\n", CSV).columns == ("Unnamed: 0", "a")


@pytest.mark.parametrize(
    ("charset", "codec"), [("latin-1", "latin-1"), ("Windows-1252", "cp1252"), ("utf-16", "utf-16")]
)
def test_the_charset_parameter_is_honoured(charset: str, codec: str) -> None:
    assert decode("größe\n1\n".encode(codec), f'text/csv; charset="{charset}"').columns == ("größe",)
    assert decode('{"größe": 1}'.encode(codec), f"{JSON}; charset={charset}").columns == ("größe",)


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "application/json", "x/y+json"])
def test_a_form_part_says_what_it_is_or_is_looked_at(content_type: str | None) -> None:
    form = as_form(b' [{"a": 1}]', content_type)
    assert decode(form, 'multipart/form-data; boundary="b0und"') == Table(("a",), ([1],))


def test_other_form_fields_pass_by() -> None:
    form = as_form(b"a\n1\n", CSV).removesuffix(b"--b0und--\r\n") + as_form(b"junk", None, "X.colnames")
    assert decode(form, "multipart/form-data; boundary=b0und") == Table(("a",), ([1],))


def test_without_a_content_type_the_body_is_looked_at() -> None:
    assert decode(b'\xef\xbb\xbf\n{"a": 1}', None) == Table(("a",), ([1],))
    assert decode(b"a\n1\n", None) == Table(("a",), ([1],))


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ({"a": 1, "b": "x"}, {"a": [1], "b": ["x"]}),
        ({"data": {"a": 1}}, {"a": [1]}),
        ({"data": {"a": [1, 2]}}, {"a": [1, 2]}),
        ({"data": [1, 2]}, {"data": [1, 2]}),
        ({"data": {"data": {"a": 1}}}, {"data": [{"a": 1}]}),
        ({"a": [1, 2], "b": 3}, {"a": [[1, 2]], "b": [3]}),
        ({"columns": ["a"], "data": [[1], [2]], "index": [7, 8]}, {"a": [1, 2]}),
    ],
)
def test_json_shapes(body: Any, columns: dict[str, list[Any]]) -> None:
    table = decode(json.dumps(body).encode(), JSON)
    assert dict(zip(table.columns, table.data, strict=True)) == columns


def test_a_field_declared_as_a_list_holds_one_list_for_each_row() -> None:
    schema = {"properties": {"values": {"type": "array"}}}
    one = decode(b'{"values": [1, 2]}', JSON, schema=schema)
    two = decode(b'{"values": [[1, 2], []]}', JSON, schema=schema)
    none = decode(b'{"values": []}', JSON, schema=schema)
    assert [one.data, two.data, none.data] == [([[1, 2]],), ([[1, 2], []],), ([[]],)]


def test_an_empty_record_stands_for_the_defaults_where_all_fields_have_one() -> None:
    schema = {"properties": {"a": {"type": "integer", "default": 5}, "b": {"default": 1}}}
    assert decode(b"{}", JSON, schema=schema) == Table(("a",), ([5],))
    assert decode(b'{"data": {}}', JSON, schema=schema) == Table(("a",), ([5],))
    with pytest.raises(InvalidData, match="the record is empty"):
        decode(b"{}", JSON, schema=schema | {"required": ["b"]})


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (b"", InvalidData, "no data: the body is empty"),
        (b" \n", InvalidData, "no data: the body is empty"),
        (b"[]", InvalidData, "no data: the list of records is empty"),
        (b"{}", InvalidData, "no data: the record is empty"),
        (b'{"a": []}', InvalidData, "no data: the columns are empty"),
        (b'"s3cr3t-payload"', InvalidData, "the JSON body is a text"),
        (b"[1, 2]", InvalidData, "row 0 is a number, not an object"),
        (b'[{"a": 1}, ["s3cr3t-payload"]]', InvalidData, "row 1 is a list, not an object"),
        (b'[{"a": 1}, {"b": "s3cr3t-payload"}]', InvalidData, "row 1 has no column 'a'"),
        (b'[{"a": 1}, {"a": 1, "b": 2}]', InvalidData, "row 1 has a column 'b', which row 0 has not"),
        (b'{"a": [1], "b": [1, 2]}', InvalidData, "column 'b' has 2 values, but column 'a' has 1"),
        (b'{"columns": ["a", "a"], "data": [[1, 2]]}', InvalidData, "holds a name more than once"),
        (b'{"columns": ["a"], "data": [[1, 2]]}', InvalidData, "row 0 has 2 values"),
        (b'{"columns": [], "data": []}', InvalidData, "no data"),
        (b'{"a": "s3cr3t-payload', InvalidRequest, "can't be read as JSON: Input data was truncated"),
        (b'{"a": NaN}', InvalidRequest, "NaN and Infinity are not JSON; a missing value is null"),
        (b'{"a": -Infinity}', InvalidRequest, "a missing value is null"),
        (b'{"a": 1e999}', InvalidRequest, "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", InvalidRequest, "out of range"),
        (b'{"a": "\xff"}', InvalidRequest, "not UTF-8"),
        (b"[" * 100_000, InvalidRequest, "nested too deeply"),
        (b'{"a":' * 100_000, InvalidRequest, "nested too deeply"),
    ],
)
def test_json_mistakes_are_named_and_not_echoed(
    body: bytes, error: type[HeadgateError], message: str
) -> None:
    with pytest.raises(error) as caught:
        decode(body, JSON)
    assert type(caught.value) is error
    assert message in caught.value.message
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\n\r\n", "no data"),
        (b"a,b\n", "no data: the CSV needs a header row"),
        (b"a,b\n1,2\n\ns3cr3t-payload\n", "CSV line 4 has 1 cells, but the header row names 2"),
        (b"a,b\n1,2,3\n", "CSV line 2 has 3 cells"),
        (b"a,b,a\n1,2,3\n", "columns 1 and 3 have the same name"),
        (b'a,b\n1,"s3cr3t-payload\n', "CSV line 2 can't be read: unexpected end of data"),
        (b'a,b\n1,"x"s3cr3t-payload\n', "CSV line 2 can't be read"),
        (b"a\n1\n-1e999\n", "row 1, column 'a': the number is out of range"),
        (b"a\n" + b"9" * 5000, "row 0, column 'a': the number is out of range"),
    ],
)
def test_csv_mistakes_are_named_and_not_echoed(body: bytes, message: str) -> None:
    with pytest.raises(InvalidData) as caught:
        decode(body, CSV)
    assert message in caught.value.message
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("content_type", "body", "error", "message"),
    [
        (
            "application/x-www-form-urlencoded",
            b"a=1",
            UnsupportedMediaType,
            "send application/json, text/csv",
        ),
        ("application/octet-stream", b"a\n1", UnsupportedMediaType, "is not read here"),
        ("text/html", b"<p>", UnsupportedMediaType, "multipart/form-data with a file field 'X'"),
        ("\x00" * 200, b"x", UnsupportedMediaType, "content type this is not read"),
        ("text/csv; charset=zip", b"a\n1", UnsupportedMediaType, "charset in Content-Type is not known"),
        ("text/csv; charset=punycode", b"a\n1", UnsupportedMediaType, "charset in Content-Type is not known"),
        ("text/csv", b"a\n\xff\n", InvalidRequest, "not UTF-8: byte 2 can't be decoded; if it is in another"),
        ("text/csv; charset=ascii", b"a\n\xff\n", InvalidRequest, "not ASCII: byte 2 can't be decoded"),
        ("text/csv; delimiter=::", b"a\n1", InvalidRequest, "delimiter must be one character"),
        ("multipart/form-data", as_form(b"a\n1", CSV), InvalidRequest, "names no boundary"),
        ("multipart/form-data; boundary=other", as_form(b"a\n1", CSV), InvalidRequest, "malformed"),
        ("multipart/form-data; boundary=b0und", as_form(b"a\n1", CSV)[:-9], InvalidRequest, "cut off"),
        ("multipart/form-data; boundary=b0und", as_form(b"a\n1", CSV, "Y"), InvalidData, "no file field 'X'"),
        ("multipart/form-data; boundary=b0und", as_form(b"", CSV), InvalidData, "the body is empty"),
        (
            "multipart/form-data; boundary=b0und",
            as_form(b"a\n1", "multipart/form-data; boundary=c"),
            UnsupportedMediaType,
            "multipart/form-data is not read here",
        ),
        (
            "multipart/form-data; boundary=b0und",
            as_form(b"a\n1", CSV).removesuffix(b"--b0und--\r\n") + as_form(b"a\n1", CSV),
            InvalidData,
            "more than one field 'X'",
        ),
    ],
)
def test_content_type_mistakes(
    content_type: str, body: bytes, error: type[HeadgateError], message: str
) -> None:
    with pytest.raises(error) as caught:
        decode(body, content_type)
    assert type(caught.value) is error
    assert message in caught.value.message


def test_a_million_elements_are_refused_or_read() -> None:
    with pytest.raises(InvalidData, match="row 0 is a number"):
        decode(b"[" + b"1," * 999_999 + b"1]", JSON)
    assert decode(b'{"a": [' + b"1," * 999_999 + b"1]}", JSON).rows == 1_000_000
    with pytest.raises(InvalidData, match="the header row names 1000000 columns"):
        decode(",".join(map(str, range(1_000_000))).encode() + b"\n1\n", CSV)


def test_long_texts_are_read() -> None:
    assert decode(b"t\n" + b"x" * 300_000, CSV).data[0] == ["x" * 300_000]


def test_answers() -> None:
    extra = Table(("why", "n"), (["a", "b"], [1, 2]))
    answer = json.loads(encode(PredictResult([{"no": 0.1, "yes": 0.9}, {"no": 1.0, "yes": 0.0}], extra)))
    assert answer == {
        "predictions": [{"no": 0.1, "yes": 0.9}, {"no": 1.0, "yes": 0.0}],
        "extraModelOutput": {"columns": ["why", "n"], "index": [0, 1], "data": [["a", 1], ["b", 2]]},
    }


def test_numbers_that_json_lacks_become_null() -> None:
    body = encode(PredictResult([float("nan"), float("inf"), {"p": float("-inf")}]))
    assert msgspec.json.decode(body) == {"predictions": [None, None, {"p": None}]}
