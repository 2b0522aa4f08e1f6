"""The pure readers of the source, given anything: they say what it is, or what is wrong with it, and no more.

Starts from recorded bytes, cut and stirred, and from whatever Hypothesis thinks of.
"""

import json
import re
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, example, given, note
from hypothesis import strategies as st

from shop_poller.core.errors import PermanentError, TemporaryError
from shop_poller.core.model import Order, Query, UnreadableOrder
from shop_poller.http.client import http_date, retry_after_s
from shop_poller.sources.woocommerce.answers import quote, read_json, rest_error
from shop_poller.sources.woocommerce.eventstream import EventStream
from shop_poller.sources.woocommerce.jsonrpc import RpcResult, read_answer, read_tool_result
from shop_poller.sources.woocommerce.listing import read_items
from shop_poller.sources.woocommerce.orders import read_order
from shop_poller.sources.woocommerce.rpc_errors import SessionLostError
from shop_poller.sources.woocommerce.values import amount
from support import wire

OURS = (TemporaryError, PermanentError, SessionLostError)

AMOUNT = re.compile(r"-?[0-9]{1,21}(\.[0-9]{1,8})?")

BODIES = [
    wire.load(name).response.body
    for folder in ("session", "errors", "orders", "abilities", "rest-v3")
    for name in wire.names(folder)
]
LISTED = list(wire.orders_by_status().values())

numbers = (
    st.integers() | st.floats(allow_nan=False) | st.sampled_from([2**31, 2**63, -(2**64), 10**400, 1e308])
)
words = st.text(max_size=30) | st.sampled_from(
    ["", "0", "-1.00", "2026-11-23T02:03:07", "\x00", "\x1b[2J", "a" * 5000]
)
leaves = st.none() | st.booleans() | numbers | words
names = (
    *("jsonrpc", "id", "result", "error", "code", "message", "data", "status", "isError", "content", "text"),
    *("structuredContent", "type", "refunds", "total", "billing", "first_name"),
)
keys = st.sampled_from(names) | st.text(max_size=5)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@st.composite
def stirred(draw: st.DrawFn, raw: bytes) -> bytes:
    """Bytes with some cut out, put in, repeated or turned over."""
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + draw(st.sampled_from([1, 8, 500])))))
        piece = draw(
            st.binary(max_size=8)
            | st.sampled_from([b'"', b"{", b"}", b"[", b"null", b"\\", raw[start:end] * 2])
        )
        raw = raw[:start] + piece + raw[end:]
    return raw


recordings = st.sampled_from(BODIES).flatmap(stirred)
headers = st.dictionaries(
    st.sampled_from(["date", "retry-after", "content-type"]),
    st.text(st.characters(max_codepoint=255), max_size=40)
    | st.sampled_from(["Mon, 23 Nov 2026 01:55:05 GMT", "600"]),
)
statuses = st.sampled_from(
    [200, 202, 204, 301, 400, 401, 403, 404, 405, 408, 410, 429, 500, 502, 503, 520, 599]
) | st.integers(100, 999)


def told(error: Exception) -> str:
    """What an error says: a short line."""
    text = str(error)
    note(text)
    assert text.isprintable()
    assert 5 < len(text) < 600
    return text


def read(request_id: int, status: int, own: dict[str, str], body: bytes) -> RpcResult | None:
    try:
        answer = read_answer(request_id, status, own, body)
    except OURS as error:
        told(error)
        return None
    assert answer.preamble == quote(answer.preamble) or "<" in answer.preamble or ">" in answer.preamble
    assert len(answer.preamble) <= 200
    return answer


def read_whole(body: bytes) -> None:
    """Read as the source does: the answer, the tool's result, the list, its orders."""
    answer = read(2, 200, {}, body)
    if answer is None:
        return
    try:
        content = read_tool_result(answer.result)
    except OURS as error:
        told(error)
        return
    assert isinstance(content, dict)
    data = content.get("data")
    for failure in (content, data):
        if isinstance(failure, dict):
            told(rest_error(failure, 500))
    try:
        read_items(content, Query(per_page=100))
    except OURS as error:
        told(error)
    for item in data if isinstance(data, list) else []:
        read_item(item)


def read_item(item: object) -> None:
    try:
        order = read_order(item)
    except TemporaryError as error:
        told(error)
        return
    assert isinstance(item, dict)
    assert order.id == float(item["id"])
    if isinstance(order, UnreadableOrder):
        assert order.reason.isprintable()
        assert 5 < len(order.reason) <= 300
    else:
        bounded = (
            order.status,
            order.number,
            order.total,
            order.currency,
            order.currency_sign,
            order.customer,
        )
        assert all(len(text) <= 200 for text in bounded)
        "".join(bounded).encode()  # can be stored and sent
        for amount in (order.total, *(refund.amount for refund in order.refunds or ())):
            assert not amount or AMOUNT.fullmatch(amount)
        assert len(order.refunds or ()) <= 1000
    for instant in (order.created_at, order.modified_at):
        assert instant is None or (instant.microsecond == 0 and 1969 <= instant.year <= 9001)


@given(statuses, headers, recordings | st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_one_of_our_errors(status: int, own: dict[str, str], body: bytes) -> None:
    read(2, status, own, body)


@given(statuses, headers, anything)
def test_any_json_is_an_answer_or_one_of_our_errors(
    status: int, own: dict[str, str], payload: object
) -> None:
    read(2, status, own, json.dumps(payload).encode())


@given(
    st.fixed_dictionaries(
        {"jsonrpc": st.just("2.0"), "id": st.just(2) | leaves},
        optional={"result": anything, "error": anything},
    )
)
@example({"jsonrpc": "2.0", "id": 2, "error": {"code": [1], "message": {"a": 1}}})
@example({"jsonrpc": "2.0", "id": 2, "error": {"code": 10**4000, "message": "x"}})
@example({"jsonrpc": "2.0", "id": 2, "result": {"content": [{"type": "text", "text": "[" * 100_000}]}})
@example({"jsonrpc": "2.0", "id": 2, "result": {"structuredContent": {"data": {"code": 10**4000}}}})
def test_any_json_rpc_is_read_to_its_end(message: dict[str, Any]) -> None:
    read_whole(json.dumps(message).encode())


@given(recordings)
def test_a_recorded_answer_however_stirred_is_read_to_its_end(body: bytes) -> None:
    read_whole(body.replace(b'"id":13', b'"id":2', 1))


@given(st.text(max_size=50), st.sampled_from([body for body in BODIES if b'"id":2,"result"' in body[:40]]))
def test_a_preamble_never_hides_an_answer(preamble: str, body: bytes) -> None:
    if preamble.strip() and '{"jsonrpc"' not in preamble:
        answer = read(2, 200, {}, preamble.encode() + body)
        assert answer == read(2, 200, {}, body) or (answer is not None and answer.preamble)


@given(anything)
def test_anything_is_a_tools_result_or_one_of_our_errors(result: object) -> None:
    try:
        assert isinstance(read_tool_result(result), dict)
    except OURS as error:
        told(error)


@given(
    statuses, headers, recordings | st.binary(max_size=300) | anything.map(lambda x: json.dumps(x).encode())
)
def test_any_bytes_are_a_list_in_plain_json_or_one_of_our_errors(
    status: int, own: dict[str, str], body: bytes
) -> None:
    try:
        listed, preamble = read_json(list, status, own, body)
        assert quote(preamble) == preamble or "<" in preamble or ">" in preamble
        read_items(listed, Query(per_page=100))
    except OURS as error:
        told(error)


# --- orders -----------------------------------------------------------------------------------------------

FIELDS = ["id", "number", "status", "total", "currency", "currency_symbol", "billing", "refunds"] + [
    f"date_{what}_gmt" for what in ("created", "modified", "paid")
]
dates = (
    st.datetimes().map(str)
    | st.datetimes().map(lambda at: at.isoformat())
    | st.text("0123456789-:TZ+ .W", max_size=30)
)


@given(
    st.sampled_from(LISTED),
    st.dictionaries(st.sampled_from(FIELDS), anything | dates, max_size=3),
    st.sets(st.sampled_from(FIELDS), max_size=2),
)
def test_an_order_with_anything_in_its_fields_is_read_or_set_aside(
    order: dict[str, Any], changed: dict[str, Any], missing: set[str]
) -> None:
    payload = {name: value for name, value in (order | changed).items() if name not in missing}
    read_item(json.loads(json.dumps(payload)))


@given(anything)
def test_anything_in_the_place_of_an_order_is_one_of_our_errors_or_has_an_id(item: object) -> None:
    read_item(item)


junk = st.dictionaries(
    st.text(max_size=12).filter(lambda name: name not in {*FIELDS, "date_created", "date_modified"}),
    anything,
    max_size=5,
)


@given(
    st.sampled_from(LISTED),
    st.dictionaries(st.sampled_from(FIELDS), anything | dates, max_size=2),
    junk,
    st.sampled_from(["billing", "refunds"]),
)
def test_what_is_not_used_never_changes_what_is_read(
    order: dict[str, Any], changed: dict[str, Any], junk: dict[str, Any], inner: str
) -> None:
    """Whatever a plugin adds to an order, or to a part of it."""
    plain = order | changed

    def read(row: dict[str, Any]) -> object:
        try:
            return read_order(row)
        except TemporaryError as error:
            return str(error)

    assert read(junk | plain) == read(plain)
    kept = plain.get(inner)
    extra = {name: value for name, value in junk.items() if name not in {"first_name", "total", "amount"}}
    if isinstance(kept, dict) and ("id" in kept or inner == "billing"):
        assert read(plain | {inner: extra | kept}) == read(plain)
    if isinstance(kept, list):
        rows = [extra | row if isinstance(row, dict) else row for row in kept]
        assert read(plain | {inner: rows}) == read(plain)


@given(st.sampled_from(LISTED), st.text(max_size=30), st.text(max_size=30))
def test_what_stands_around_a_list_never_changes_what_is_read(
    order: dict[str, Any], before: str, after: str
) -> None:
    """Text that begins no JSON, and wrappings."""
    assume(not set("[{") & set(before + after))
    listed = [order | {"id": 1}, order | {"id": 2}]
    expected = read_items(listed, Query(per_page=100))
    for content in (
        listed,
        {"orders": listed},
        {"0": listed[0], "7": listed[1]},
        {"data": {"orders": listed}},
    ):
        text = f"{before}\n{json.dumps(content)}\n{after}"
        found, _ = read_json(list, 200, {}, text.encode())
        assert read_items(found, Query(per_page=100)) == expected


@given(st.sampled_from(LISTED), st.integers(2, 10_000), st.text(max_size=20))
def test_a_list_that_is_cut_off_is_never_read_as_empty(order: dict[str, Any], at: int, after: str) -> None:
    whole = json.dumps([order, order])
    body = f"{whole[: min(at, len(whole) - 1)]}{after}"
    try:
        listed, _ = read_json(list, 200, {}, body.encode("utf-8", "replace"))
    except OURS as error:
        told(error)
    else:
        assert listed


@given(st.text() | st.sampled_from(["1,234.50", "1.0E+2", "-0", "12.3400000000001"]) | numbers)
def test_anything_is_an_amount_or_none(value: object) -> None:
    found = amount(value)
    assert not found or AMOUNT.fullmatch(found)
    assert amount(found) == found


@given(st.decimals(-(10**15), 10**15, places=2))
def test_an_amount_of_two_decimals_is_kept_as_it_is(value: Decimal) -> None:
    assert amount(str(value)) == (str(value) if value else "0.00")
    assert Decimal(amount(f"{value:,}")) == value


@given(st.sampled_from(FIELDS[2:]), st.text("СмирноваПетрова", min_size=12, max_size=400))
def test_the_reason_names_the_field_and_never_what_was_in_it(field: str, value: str) -> None:
    for spoilt in (value, [value], {"id": value}, [{"id": value, "total": value}]):
        bad = read_order(LISTED[0] | {"id": 1, field: spoilt})
        if isinstance(bad, UnreadableOrder):
            assert field in bad.reason
            assert value[:12] not in bad.reason


@given(st.sampled_from(LISTED))
def test_a_whole_order_is_read(order: dict[str, Any]) -> None:
    assert isinstance(read_order(order), Order)


# --- event streams ----------------------------------------------------------------------------------------

lines = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"data:",
        b": comment",
        b"event: x",
        b"id: 1",
        b"",
        b"",
        b"\xef\xbb\xbf",
        b"dat",
        b"data : c",
    ]
) | st.binary(max_size=6)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
streams = st.lists(st.tuples(lines, ends), max_size=20).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


def in_pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    stream, events, start = EventStream(), list[bytes](), 0
    for end in [*sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]:
        events += stream.feed(raw[start:end])
        start = end
    return events


def as_specified(raw: bytes) -> list[bytes]:
    """The events of a whole stream, as the standard tells it, without a thought of speed."""
    text = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removeprefix(b"\xef\xbb\xbf")
    events, data = list[bytes](), list[bytes]()
    for line in text.split(b"\n")[:-1]:  # what is not ended is not a line
        name, colon, value = line.partition(b":")
        if line == b"":
            if data:
                events.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" ") if colon else b"")
    return events


@given(streams | st.binary(max_size=60), st.lists(st.integers(0, 200), max_size=12))
def test_an_event_stream_is_the_same_however_it_is_cut(raw: bytes, cuts: list[int]) -> None:
    assert in_pieces(raw, cuts) == in_pieces(raw, []) == as_specified(raw)


@given(streams)
def test_an_event_stream_may_come_byte_by_byte(raw: bytes) -> None:
    assert in_pieces(raw, list(range(len(raw)))) == as_specified(raw)


def test_an_event_stream_is_read_in_linear_time() -> None:
    pieces = {
        "one long line": [b"x" * 10] * 200_000,
        "an event of many lines": [b"data: x\n"] * 200_000,
        "many events": [b"data: x\n\n" * 1_000] * 200,
        "a line in single bytes": [b"x"] * 200_000,
    }
    started = time.process_time()
    for chunks in pieces.values():
        stream = EventStream()
        for chunk in chunks:
            for _ in stream.feed(chunk):
                pass
    assert (
        time.process_time() - started < 20
    )  # it takes half a second; copying all at each piece takes minutes


# --- headers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_header", [http_date, retry_after_s])
@given(
    own=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["date", "retry-after"],
            st.text(max_size=60)
            | st.text("0123456789-+:, GMTMonNov()", max_size=60)
            | st.from_regex(
                r"\A[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,12} \d{1,3}:\d{1,3}:\d{1,3} [+-]?\w{1,9}\Z"
            ),
        ),
    )
)
def test_any_header_is_a_time_or_nothing(
    read_header: Callable[[dict[str, str]], object], own: dict[str, str]
) -> None:
    found = read_header(own)
    assert not isinstance(found, float) or 0 <= found < 10**12
