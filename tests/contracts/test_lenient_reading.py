"""An answer is good if a list of orders can be found in it, whatever a shop puts around it or makes of it.

The cases of tests/data/cases, and others of their kinds, in every dialect that they can come in.
"""

import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Order, Page, Query, Refund
from shop_poller.ports import Source
from shop_poller.sources.woocommerce.abilities import Abilities
from shop_poller.sources.woocommerce.answers import parse, quote
from shop_poller.sources.woocommerce.execute import Execute
from shop_poller.sources.woocommerce.rest import Rest
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from support import cases, wire
from support.scripted_shop import (
    KEY,
    SECRET,
    Reply,
    ScriptedShop,
    SentRequest,
    answer,
    body,
    events,
    page,
    scripted_shop,
)

pytestmark = pytest.mark.anyio

ASK = Query(per_page=100)
RAW = {name: value for name, value in wire.orders_by_status()["processing"].items() if name != "meta_data"}
ONE, TWO = RAW | {"id": 1}, RAW | {"id": 3}
PRIVATE = ("Surname", "Street", "Secret")


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


@dataclass(frozen=True)
class Tongue:
    """A dialect, and how the text of an answer with some JSON in the place of its list reads in it."""

    name: str
    make: Callable[[str], Source]
    around: Callable[[str], str]

    def reply(self, listed: str, before: str = "", after: str = "") -> Reply:
        return lambda requested: body(
            before + self.around(listed).replace("%d", str(requested.json.get("id", 0))) + after
        )(requested)


RPC = '{"jsonrpc":"2.0","id":%d,"result":'
TONGUES = [
    Tongue("rest", lambda url: Rest(url, consumer_key=KEY, consumer_secret=SECRET), lambda listed: listed),
    Tongue(
        "execute",
        lambda url: Execute(url, consumer_key=KEY, consumer_secret=SECRET),
        lambda listed: f'{{"data":{listed}}}',
    ),
    Tongue(
        "mcp",
        lambda url: WooCommerceMcp(url, consumer_key=KEY, consumer_secret=SECRET),
        lambda listed: f'{RPC}{{"content":[],"structuredContent":{{"data":{listed}}}}}}}',
    ),
    Tongue(
        "mcp, text only",
        lambda url: WooCommerceMcp(url, consumer_key=KEY, consumer_secret=SECRET),
        lambda listed: (
            RPC + '{"content":[{"type":"text","text":' + json.dumps('{"data":' + listed + "}") + "}]}}"
        ),
    ),
    Tongue(
        "abilities",
        lambda url: Abilities(url, username="watchman", password="abcd"),
        lambda listed: f'{RPC}{{"structuredContent":{{"success":true,"data":{{"orders":{listed}}}}}}}}}',
    ),
]
REST, MCP = TONGUES[0], TONGUES[2]
every_dialect = pytest.mark.parametrize("tongue", TONGUES, ids=lambda tongue: tongue.name)


@pytest.fixture
def shop() -> Iterator[ScriptedShop]:
    with scripted_shop() as shop:
        yield shop


@asynccontextmanager
async def source_of(tongue: Tongue, shop: ScriptedShop) -> AsyncIterator[Source]:
    source = tongue.make(shop.url)
    try:
        yield source
    finally:
        await source.aclose()


async def fetched(shop: ScriptedShop, tongue: Tongue, reply: Reply) -> Page:
    shop.on_question(reply)
    async with source_of(tongue, shop) as source:
        return await source.fetch(ASK)


async def refused(shop: ScriptedShop, tongue: Tongue, reply: Reply) -> ShopPollerError:
    shop.on_question(reply)
    async with source_of(tongue, shop) as source:
        with pytest.raises((TemporaryError, PermanentError)) as caught:
            await source.fetch(ASK)
    told = str(caught.value)
    assert told.isprintable()
    assert 10 < len(told) < 600
    assert not any(word in told for word in PRIVATE)
    return caught.value


def ids(found: Page) -> list[int]:
    assert all(isinstance(item, Order) for item in found.items)
    return [item.id for item in found.items]


# --- text before and after whole JSON ----------------------------------------------------------------------

AROUND: dict[str, tuple[str, str, str]] = {
    # before, after, and what is told of it
    "the comment of a cache": (
        "",
        "\n<!-- Dynamic page generated in 0.412 seconds. -->",
        "Dynamic page generated in 0.412 seconds.",
    ),
    "a notice of PHP": ("", "<br />\n<b>Warning</b>: x in <b>y.php</b> on line 3<br />\n", "Warning : x in"),
    "notices on both sides": ("<b>Notice</b>: a\n", "<b>Notice</b>: b", "Notice : a … Notice : b"),
    "a fatal error at the end": (
        "",
        "<br />\n<b>Fatal error</b>: Uncaught Error: x",
        "Fatal error : Uncaught",
    ),
    "the end of wp_die": ("", "0", "0"),
    "minus one": ("", "-1", "-1"),
    "bytes of nothing": ("\x00", "\x00\x00\n\x00", ""),
    "byte order marks": ("\ufeff\ufeff\n\ufeff", "\ufeff", ""),
    "a semicolon": ("", ";", ";"),
    "closing brackets": ("", "]}", "]}"),
    "a page": ("", "<!DOCTYPE html><html><body><p>There has been a critical error</p>", "There has been"),
    "a script with JSON in it": ("", '<script>var x = {"a": [], "id": 5}</script>', "data"),
    "JSON of a plugin's own": ('{"debug":[1,2]}\n', '\n{"time":0.3}', "data … data"),
    "a line of a log in JSON": ('{"level":"info","message":"x"}\n', "", "data"),
    "a date of a log": (
        "[23-Nov-2026 01:55:05 UTC] PHP Notice:  x[] in y\n",
        "",
        "[23-Nov-2026 01:55:05 UTC]",
    ),
    "an opening brace": ("syntax error, unexpected token {\n", "", "syntax error, unexpected token {"),
    "a quoted brace": ('unexpected "{" or "[" in y.php\n', "", "unexpected"),
    "an empty list of a plugin's own": ("x[] []\n", "\n[]", "x[] [] … []"),
}


@every_dialect
@pytest.mark.parametrize("name", AROUND)
async def test_orders_are_read_whatever_stands_around_them(
    shop: ScriptedShop, tongue: Tongue, name: str
) -> None:
    before, after, told = AROUND[name]
    found = await fetched(shop, tongue, tongue.reply(compact([ONE, TWO]), before, after))
    assert ids(found) == [1, 3]
    assert found.preamble.startswith(told)


EMPTY_AROUND = [name for name in AROUND if name not in {"a page", "a script with JSON in it", "a semicolon"}]


@every_dialect
@pytest.mark.parametrize("name", EMPTY_AROUND)
async def test_an_empty_list_is_one_whatever_stands_around_it(
    shop: ScriptedShop, tongue: Tongue, name: str
) -> None:
    before, after, _ = AROUND[name]
    assert ids(await fetched(shop, tongue, tongue.reply("[]", before, after))) == []


@pytest.mark.parametrize("file", ["answer_a", "answer_b", "answer_c"])
async def test_the_case_trailing_junk(shop: ScriptedShop, file: str) -> None:
    found = await fetched(shop, REST, body(cases.raw(f"trailing-junk/{file}.body")))
    assert ids(found) == ([] if file == "answer_c" else [2])
    assert found.preamble


@every_dialect
@pytest.mark.parametrize("pretty", [{"indent": 4}, {"separators": (" , ", " : ")}, {"indent": "\t"}], ids=str)
async def test_json_may_be_written_in_any_way(
    shop: ScriptedShop, tongue: Tongue, pretty: dict[str, Any]
) -> None:
    found = await fetched(
        shop, tongue, tongue.reply(json.dumps([ONE, TWO], **pretty), "notice\n", "<!-- c -->")
    )
    assert ids(found) == [1, 3]


async def test_the_sizes_of_chunks_are_taken_out(shop: ScriptedShop) -> None:
    """A cache that keeps a body as it came over the wire, and sends it again."""
    text = compact([ONE, TWO]).encode()
    for size in (50, 1000, 100_000):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        found = await fetched(shop, REST, body(framed))
        assert ids(found) == [1, 3]
        assert found.preamble == f"{len(pieces[0]):x}"
    assert ids(await fetched(shop, REST, body(b"2\r\n[]\r\n0\r\n\r\n"))) == []
    assert (await refused(shop, REST, body(framed[:-300]))).kind is ErrorKind.PROTOCOL


BROKEN = [
    '[{"id":1,"status":"processing","refunds":[]',
    '[{"id":1,"refunds":[{"id":9,"total":"-1.00"}]',
    '[{"id":1,"date_created_gmt":"2026-11-23T09:50:00","refunds":[]},{"id":2,"line_items":[]',
    # What a page has lost of its beginning: the orders before are not to be passed by.
    'x"}],"id":1},' + compact(ONE) + "]",
    'x"}],"id":1},' + compact(ONE) + "," + compact(TWO) + "]",
    # an empty list within something else
    "<b>Notice</b>: x[] in y.php",
    "<p>x [] y</p>",
    "<html><body>[]</body></html>",
    "<!doctype html><script>\n[]\n</script>",
    "[]" + compact([ONE])[:-20],
    compact([ONE])[:-20] + "[]",
    "[]\n" + compact(ONE),
    "[]<!DOCTYPE html><html><body><p>There has been a critical error</p></body></html>",
    '{"data":[]' + compact([ONE])[:-5],
    '{"data":[]}\n{"data":[{"id":1,',
    '<html><script>var x = {"data":[]}</script></html>',
    '<html><script>{"code":"x","message":"y"}</script></html>',
]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:40])
@pytest.mark.parametrize("before", ["", "<b>Notice</b>: x\n", "\ufeff "], ids=["clean", "noisy", "marked"])
async def test_what_is_cut_off_is_never_an_empty_list(shop: ScriptedShop, text: str, before: str) -> None:
    assert (await refused(shop, REST, body(before + text))).kind is ErrorKind.PROTOCOL


@every_dialect
async def test_no_beginning_of_an_answer_is_an_answer(shop: ScriptedShop, tongue: Tongue) -> None:
    """Nor is it with a comment behind it, as of a cache that was cut itself."""
    whole = tongue.around(compact([ONE | {"line_items": []}, TWO])).replace("%d", "2")
    for end in (*range(1, len(whole) - 1, 97), len(whole) - 1):
        for after in ("", "\n<!-- cached -->"):
            assert (await refused(shop, tongue, body(whole[:end] + after))).kind is ErrorKind.PROTOCOL


async def test_json_within_json_is_read(shop: ScriptedShop) -> None:
    assert ids(await fetched(shop, REST, body(json.dumps(compact([ONE, TWO]))))) == [1, 3]


# --- lists that are none, and wrappings --------------------------------------------------------------------

GAPS = {"0": ONE, "2": TWO}
LISTS: dict[str, object] = {
    "a list": [ONE, TWO],
    "a list with gaps": GAPS,
    "by their ids": {"1": ONE, "3": TWO},
    "by their numbers": {"no. 1": ONE, "no. 3": TWO},
    "orders": {"orders": [ONE, TWO], "total": 2},
    "orders with gaps": {"orders": GAPS},
    "data": {"success": True, "data": [ONE, TWO]},
    "data with gaps": {"success": True, "data": GAPS},
    "data.orders": {"status": "ok", "data": {"orders": [ONE, TWO]}},
    "data.orders with gaps": {"data": {"orders": GAPS, "page": 1}},
    "an envelope": {"body": [ONE, TWO], "status": 200, "headers": {"X-WP-Total": 2}},
    "a code that is none": {"code": 0, "message": "ok", "data": [ONE, TWO]},
    "an id of its own": {"id": "x", "status": "ok", "result": [ONE, TWO]},
    "a name of its own": {"bestellungen": [ONE, TWO], "filters": [{"id": 5}]},
    "a list in a list": [[ONE, TWO]],
    "wrappings in a list": [{"orders": [ONE, TWO]}],
}


@every_dialect
@pytest.mark.parametrize("name", LISTS)
async def test_a_list_is_found_in_what_was_made_of_it(shop: ScriptedShop, tongue: Tongue, name: str) -> None:
    assert ids(await fetched(shop, tongue, tongue.reply(compact(LISTS[name])))) == [1, 3]


@pytest.mark.parametrize("name", LISTS)
async def test_it_is_found_after_a_preamble_too(shop: ScriptedShop, name: str) -> None:
    found = await fetched(shop, REST, body(f"<b>Notice</b>: x\n{compact(LISTS[name])}\n<!-- c -->"))
    assert ids(found) == [1, 3]


@every_dialect
async def test_one_order_in_the_place_of_a_list_is_read(shop: ScriptedShop, tongue: Tongue) -> None:
    assert ids(await fetched(shop, tongue, tongue.reply(compact(ONE)))) == [1]


@pytest.mark.parametrize(
    "listed",
    [
        *({"orders": []}, {"data": []}, {"data": {"orders": []}, "page": 1}),
        *({"result": []}, {"items": [], "total": 0}, {"success": True, "result": {"data": []}}),
        *(
            {"code": 200, "message": "OK", "data": []},
            {"code": "success", "data": []},
            {"code": 0, "data": []},
        ),
        {"body": [], "status": 200, "headers": []},
    ],
    ids=str,
)
async def test_a_wrapped_list_may_be_empty(shop: ScriptedShop, listed: object) -> None:
    for tongue in (REST, MCP):
        assert ids(await fetched(shop, tongue, tongue.reply(compact(listed)))) == []


@pytest.mark.parametrize(
    "listed",
    [
        *({"items": [], "rows": {"5": 1}}, {"result": [], "success": False}, {"body": [], "status": 500}),
        {"code": "rest_no", "data": []},
    ],
    ids=str,
)
async def test_a_wrapped_list_that_is_empty_may_say_nothing(shop: ScriptedShop, listed: object) -> None:
    await refused(shop, REST, body(compact(listed)))


FATAL = "<br />\n<b>Fatal error</b>: Uncaught Error: x"
CRITICAL = compact({"code": "internal_server_error", "message": "x", "data": {"status": 500}})
SPOILT = {
    "203 of a proxy": (203, ""),
    "206": (206, ""),
    "403 of a plugin": (403, ""),
    "404 of a plugin": (404, ""),
    "500 after the answer": (500, FATAL),
    "500 and WordPress's error after the answer": (500, CRITICAL),
    "503 of a site that is closed": (503, "<!-- c -->"),
}


@every_dialect
@pytest.mark.parametrize("name", SPOILT)
async def test_orders_are_orders_whatever_the_status_says(
    shop: ScriptedShop, tongue: Tongue, name: str
) -> None:
    status, after = SPOILT[name]
    whole = tongue.reply(compact([ONE, TWO]), after=after)
    found = await fetched(
        shop, tongue, lambda requested: body(whole(requested).text, status=status)(requested)
    )
    assert ids(found) == [1, 3]


@pytest.mark.parametrize("status", [201, 429])
async def test_but_not_where_it_says_that_one_was_made_or_there_were_too_many_questions(
    shop: ScriptedShop, status: int
) -> None:
    await refused(shop, REST, body(compact([ONE]), status=status))


NO_ORDERS = {"x-wp-total": "0", "date": "Mon, 23 Nov 2026 02:00:00 GMT"}


@pytest.mark.parametrize("status", [200, 500, 503])
@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{}", "null", "false", "[null]", '{"orders":{}}', f"[]{CRITICAL}", f"[]\n{FATAL}"),
        '[{"code":"x"}]',
    ],
)
async def test_a_shop_that_counts_no_orders_has_none(shop: ScriptedShop, status: int, text: str) -> None:
    assert ids(await fetched(shop, REST, body(text, status=status, headers=NO_ORDERS))) == []
    if status != 200:
        await refused(shop, REST, body(text, status=status))


@pytest.mark.parametrize(
    ("text", "status"),
    [
        *((CRITICAL, 500), ("", 200), ("<h1>x</h1>", 503), ('[{"id":5,"status":"proc', 200), ("[]", 429)),
        ('[]{"id":5,"status":"proc', 200),
    ],
)
async def test_unless_what_it_wrote_may_be_something_else(shop: ScriptedShop, text: str, status: int) -> None:
    await refused(shop, REST, body(text, status=status, headers=NO_ORDERS))


async def test_the_case_orders_map(shop: ScriptedShop) -> None:
    assert ids(await fetched(shop, REST, body(cases.raw("orders-map/answer.json")))) == [1, 3]


INSTEAD: dict[str, tuple[str, str]] = {
    "an object": ("{}", "an object instead of a list of orders"),
    "an object of somebody else's": ('{"routes":{"a":[]}}', "an object instead of a list of orders"),
    "text": ("Hello, world", "text (Hello, world) instead of a list of orders"),
    "text as JSON": ('"none"', "text instead of a list of orders"),
    "a number": ("42", "a number instead of a list of orders"),
    "null": ("null", "nothing instead of a list of orders"),
    "true": ("true", "true or false instead of a list of orders"),
    "nothing": ("", "an empty page instead of a list of orders"),
    "half": ('[{"id":1,"status":"proc', "JSON that is cut off or broken instead of a list of orders"),
}


@pytest.mark.parametrize("name", INSTEAD)
async def test_an_error_says_what_the_shop_did(shop: ScriptedShop, name: str) -> None:
    sent, told = INSTEAD[name]
    error = await refused(shop, REST, body(sent))
    assert error.kind is ErrorKind.PROTOCOL
    assert told in str(error)
    assert "firewall" not in str(error)
    assert "firewall" in str(await refused(shop, REST, page(f"<html><body>{sent}</body></html>")))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("none", "text instead of a list"),
        ({"a": 1}, "an object instead of a list"),
        (None, "nothing instead of a list"),
        (7, "a number instead of a list"),
    ],
)
async def test_a_tools_error_says_what_it_returned(shop: ScriptedShop, data: object, told: str) -> None:
    assert told in str(await refused(shop, MCP, MCP.reply(compact(data))))


# --- what a tool returns -----------------------------------------------------------------------------------

TEXT = {"type": "text", "text": compact({"data": [ONE, TWO]})}
RESULTS: dict[str, object] = {
    "a list": {"structuredContent": [ONE, TWO]},
    "a list with gaps": {"structuredContent": GAPS},
    "data with gaps": {"structuredContent": {"data": GAPS}},
    "a list and its text": {"structuredContent": [ONE, TWO], "content": [TEXT]},
    "an empty list beside the text": {"structuredContent": [], "content": [TEXT]},
    "an empty object beside the text": {"structuredContent": {}, "content": [TEXT]},
    "null beside the text": {"structuredContent": None, "content": [TEXT]},
    "no data beside the text": {"structuredContent": {"data": []}, "content": [TEXT]},
    "text only": {"content": [TEXT]},
    "text only, a list": {"content": [{"type": "text", "text": compact([ONE, TWO])}]},
    "text only, a list with gaps": {"content": [{"type": "text", "text": compact(GAPS)}]},
    "text with a notice": {
        "content": [{"type": "text", "text": f"Notice: x\n{compact([ONE, TWO])}\n<!-- c -->"}]
    },
    "a later block": {"content": [{"type": "text", "text": "2 orders found:"}, {"type": "image"}, TEXT]},
    "one block": {"content": TEXT},
    "blocks with gaps": {"content": {"0": {"type": "text", "text": "Orders"}, "2": TEXT}},
    "a block of JSON": {"content": [{"type": "json", "json": {"data": [ONE, TWO]}}]},
    "a block of data": {"content": [{"type": "data", "data": [ONE, TWO]}]},
    "a resource": {
        "content": [
            {
                "type": "resource",
                "resource": {"uri": "x", "mimeType": "application/json", "text": TEXT["text"]},
            }
        ]
    },
    "text as structured content": {"structuredContent": TEXT["text"]},
    "the list itself": [ONE, TWO],
    "not an error": {"isError": "false", "structuredContent": [ONE, TWO]},
    "no error either": {"isError": "0", "structuredContent": [ONE, TWO]},
    "text in the place of blocks": {"content": TEXT["text"]},
    "one text in two blocks": {
        "content": [{"type": "text", "text": TEXT["text"][:99]}, {"type": "text", "text": TEXT["text"][99:]}]
    },
}


@pytest.mark.parametrize("name", RESULTS)
async def test_the_result_of_a_tool_may_stand_in_several_places(shop: ScriptedShop, name: str) -> None:
    assert ids(await fetched(shop, MCP, answer(RESULTS[name]))) == [1, 3]


EMPTY_RESULTS = [
    {"structuredContent": [], "content": [{"type": "text", "text": "[]"}]},
    {"structuredContent": [], "content": [{"type": "text", "text": '{"data":[]}'}]},
    {"structuredContent": {}, "content": [{"type": "text", "text": '{"data":[]}'}]},
    {"structuredContent": {"data": []}, "content": []},
    {"structuredContent": {"result": []}, "content": []},  # of a server in Python
    {"content": [{"type": "text", "text": "0 orders"}, {"type": "text", "text": "[]"}]},
]


WRAPPED = {
    "a list of one": "[%s]",
    "a list with a notification": '[{"jsonrpc":"2.0","method":"notifications/message"},%s]',
    "a list with gaps": '{"1":%s}',
    "data": '{"success":true,"data":%s}',
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("kind", ["JSON", "event"])
async def test_a_response_may_stand_in_a_list(shop: ScriptedShop, name: str, kind: str) -> None:
    def reply(requested: SentRequest) -> httpx.Response:
        text = MCP.reply(compact([ONE, TWO]))(requested).text
        whole = WRAPPED[name].replace("%s", text)
        return events(f"data: {whole}\n\n".encode())(requested) if kind == "event" else body(whole)(requested)

    assert ids(await fetched(shop, MCP, reply)) == [1, 3]


async def test_an_error_that_is_empty_is_none(shop: ScriptedShop) -> None:
    whole = MCP.reply(compact([ONE]))

    def empty(request: SentRequest) -> httpx.Response:
        text = whole(request).text.replace('{"jsonrpc"', '{"error":{},"jsonrpc"', 1)
        return body(text)(request)

    assert ids(await fetched(shop, MCP, empty)) == [1]


@pytest.mark.parametrize("result", EMPTY_RESULTS, ids=str)
async def test_a_tool_may_find_nothing(shop: ScriptedShop, result: object) -> None:
    assert ids(await fetched(shop, MCP, answer(result))) == []


@pytest.mark.parametrize("file", ["a", "b", "c"])
async def test_the_case_structured_list(shop: ScriptedShop, file: str) -> None:
    assert ids(await fetched(shop, MCP, answer(cases.load(f"structured-list/{file}.json")))) == [2]


@every_dialect
async def test_a_rest_error_dressed_as_success_remains_an_error(shop: ScriptedShop, tongue: Tongue) -> None:
    error = {"code": "woocommerce_rest_cannot_view", "message": "Нельзя", "data": {"status": 403}}
    problem = await refused(shop, tongue, tongue.reply(compact(error)))
    assert problem.kind is ErrorKind.AUTHENTICATION


# --- JSON that strict parsers refuse -----------------------------------------------------------------------


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + "1" + closing * depth


DEEP = [
    nested(250, "[", "]"),
    nested(511, '{"a":', "}"),
    nested(300, '[{"a":', "}]"),
    nested(100_000, "[", "]"),
]
ODD_JSON = {
    **{f"deep {n}": f'"meta_data":{text}' for n, text in enumerate(DEEP)},
    "half a pair": r'"note":"x\ud83d"',
    "the other half": r'"note":"\ude00x\\ud83d"',
    "two first halves": r'"note":"\ud83d\ud83d\ude00"',
    "a backslash before it": r'"note":"\\\ud83d"',
    "NaN": '"x":NaN',
    "infinities": '"x":[Infinity,-Infinity]',
    "a number without end": '"x":' + "9" * 10_000,
    "a number beyond all": '"x":-1e99999',
    "a line break in a string": '"note":"a\nb\tc\x01"',
    "a comma before a bracket": '"x":[1,2, ],"y":{"a":1 , }',
    "brackets in a string": r'"note":"]}\"[{,]"',
    "a name twice": '"note":1,"note":2',
}


@every_dialect
@pytest.mark.parametrize("name", ODD_JSON)
@pytest.mark.parametrize("around", [("", ""), ("<b>Notice</b>\n", "<!-- c -->")], ids=["clean", "noisy"])
async def test_json_that_strict_parsers_refuse_is_read(
    shop: ScriptedShop, tongue: Tongue, name: str, around: tuple[str, str]
) -> None:
    odd = f"{compact(ONE | {'id': 2})[:-1]},{ODD_JSON[name]}}}"
    found = await fetched(shop, tongue, tongue.reply(f"[{compact(ONE)},{odd},{compact(TWO)}]", *around))
    assert ids(found) == [1, 2, 3]
    assert found.items[1].modified_at == found.items[0].modified_at


@every_dialect
@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_wide_letters_are_read(shop: ScriptedShop, tongue: Tongue, coding: str) -> None:
    for listed, found in (([ONE, TWO], [1, 3]), ([], [])):
        whole = tongue.reply(compact(listed))
        wide = lambda requested, whole=whole: body(whole(requested).text.encode(coding))(requested)  # noqa: E731
        assert ids(await fetched(shop, tongue, wide)) == found
    cut = compact([ONE | {"billing": {"last_name": "Surname"}}])[:-9].encode(coding)
    await refused(shop, REST, body(cut))


async def test_a_code_is_a_word_or_it_is_not_told(shop: ScriptedShop) -> None:
    failure = {"code": "Surname", "message": "x", "data": {"status": 400}}
    assert "?: x" in str(await refused(shop, REST, body(compact(failure), status=400)))
    failure["code"] = "rest_no_route"
    assert "rest_no_route: x" in str(await refused(shop, REST, body(compact(failure), status=404)))


async def test_bytes_that_are_no_text_are_read(shop: ScriptedShop) -> None:
    name = json.dumps(ONE | {"billing": {"first_name": "@@"}}).replace("@@", "Zo\xeb").encode("latin-1")
    (order,) = (await fetched(shop, REST, body(b"[" + name + b"]"))).items
    assert isinstance(order, Order)
    assert order.customer == "Zo\ufffd"


async def test_half_a_pair_in_what_is_told_can_be_sent(shop: ScriptedShop) -> None:
    text = json.dumps(
        [ONE | {"billing": {"first_name": "Ж\ud83d"}, "number": "7\ude00", "status": "x\ud83d"}]
    )
    (order,) = (await fetched(shop, REST, body(text))).items
    assert isinstance(order, Order)
    assert repr((order.customer, order.number, order.status)).encode()
    error = json.dumps({"code": "x\ud83d", "message": "\ud83dy", "data": {"status": 500}})
    str(await refused(shop, REST, body(error, status=500))).encode()


async def test_the_case_deep_meta(shop: ScriptedShop) -> None:
    deep = f"{compact(ONE | {'id': 2})[:-1]},{cases.raw('deep-meta/item.json').decode().strip()[8:]}"
    for tongue in TONGUES:
        listed = f"[{compact(ONE)},{deep},{compact(TWO)}]"
        assert ids(await fetched(shop, tongue, tongue.reply(listed))) == [1, 2, 3]


async def test_an_event_of_a_stream_may_be_deep_too(shop: ScriptedShop) -> None:
    deep = f'{compact(ONE)[:-1]},"meta_data":{DEEP[0]}}}'
    whole = MCP.around(f"[{deep}]")
    assert ids(await fetched(shop, MCP, events(f"data: {whole}\n\n".encode()))) == [1]


HOSTILE = {
    "brackets": b"[" * 8_000_000,
    "objects": b'[{"id":' * 1_400_000,
    "quotes": b'[{"' + b'\\"' * 8_000_000,
    "commas and blanks": b'[{"id":1},' + b"," * 100 + b" " * 8_000_000,
    "beginnings": b'{"a" ' * 1_400_000,
    "small objects": b'{"a":1}' * 1_400_000,
    "empty lists": b"x[]" * 1_400_000,
    "chunks": b"1\r\nx\r\n" * 300_000,
    "a document of lists": b"<html>" + b"[]\n" * 700_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_answer_is_found_out_in_linear_time(name: str) -> None:
    began = time.process_time()
    assert parse(HOSTILE[name]) == (None, "")
    assert time.process_time() - began < 10  # it takes one or two seconds at most


# --- orders ------------------------------------------------------------------------------------------------

CASES: dict[str, dict[str, object]] = {
    "symbol-markup/order_a.json": {"currency_sign": "RUB", "total": "1930.00"},
    "symbol-markup/order_b.json": {"currency_sign": "RUB"},
    "paid-date-odd/order_a.json": {"paid_at": None, "status": "processing"},
    "paid-date-odd/order_b.json": {"paid_at": None},
    "paid-date-odd/order_c.json": {"paid_at": None},
    "refund-of-nothing/order_a.json": {"refunds": (Refund(5, "0.00"),)},
    "refund-of-nothing/order_b.json": {"refunds": (Refund(5, "1930.00"),)},
    "unpaid-custom-status/order_a.json": {"status": "pending-deposit", "paid_at": None},
    "unpaid-custom-status/order_b.json": {"status": "pos-open", "total": "0.00"},
}


@pytest.mark.parametrize("name", CASES)
async def test_the_order_of_a_case_is_read(shop: ScriptedShop, name: str) -> None:
    (order,) = (await fetched(shop, REST, body(cases.raw(name)))).items
    assert isinstance(order, Order)
    assert {field: getattr(order, field) for field in CASES[name]} == CASES[name]


# --- what is quoted ----------------------------------------------------------------------------------------


async def test_the_case_log_quotes_order(shop: ScriptedShop) -> None:
    error = await refused(shop, REST, body(cases.raw("log-quotes-order/answer.body")))
    assert "Deprecated : x" in str(error)
    assert "Vera" not in str(error)


QUOTES: dict[str, tuple[str, str]] = {
    # what the shop said, and the part of it that is quoted
    "JSON": ('Deprecated: x\n[{"billing": {"last_name": "Surname"', "Deprecated: x"),
    "JSON in one line": ('Unexpected answer: {"last_name":"Surname"', "Unexpected answer:"),
    "JSON in lines": ('x\n[\n  {\n    "id": 5,\n "last_name": "Surname"', "x"),
    "JSON with escaped quotes": (r"x [{\"last_name\":\"Surname\"}]", "x"),
    "JSON in HTML": ("<p>x</p> {&quot;last_name&quot;:&quot;Surname&quot;}", "x"),
    "JSON in an address": ("x %7B%22last_name%22%3A%22Surname%22%7D", "x"),
    "JSON in an attribute": ('x <div data-order=\'{"last_name":"Surname"}\'>', "x"),
    "JSON without its beginning": ('Notice: x\nname":"Surname","address_1":"Street 5"', "Notice: x"),
    "the end of a value": ('<br />x<br />Surname","address_1":"Street 5"', "x"),
    "a list of values": ('x ["Vera","Surname"]', "x"),
    "a quoted key": ('x "last_name": "Surname"', "x"),
    "JavaScript": ("<script>var o = {last_name: 'Surname'}", "data"),
    "a whole script": ("<script>var o = {name: 'Surname'}</script><h1>Hello</h1>", "Hello"),
    "Python": ("x {'id': 5, 'last_name': 'Surname'}", "x {'id': 5"),
    "the arguments of a function in a message": (
        "Uncaught TypeError: f('Surname', 'Street')",
        "Uncaught TypeError: f",
    ),
    "values of SQL": ("x ('Vera', 'Surname'), ('Anna', 'Street')", "x"),
    "print_r": ("x\nArray\n(\n    [billing] => Array\n (\n [last_name] => Surname", "x"),
    "print_r of an object": ("x WC_Order Object\n(\n    [data:protected] => Surname", "x"),
    "var_dump": ('x\narray(2) {\n  ["last_name"]=>\n  string(9) "Surname"', "x"),
    "var_dump in HTML": ("x <small>string</small> <font>array(1)</font> 'Surname'", "x string"),
    "var_export": ("x\narray (\n  'billing' => \n  array (\n    'last_name' => 'Surname',", "x"),
    "serialize": ('x a:1:{s:9:"last_name";s:7:"Surname";}', "x"),
    "serialize, an object": ('x O:8:"stdClass":1:{s:1:"a";s:7:"Surname";}', "x"),
    "serialize, the end": ('x s:7:"Surname";}', "x"),
    "SQL": (
        "WordPress database error: [x] INSERT INTO `wp_wc` (`a`) VALUES ('Vera','Surname')",
        "WordPress database error: [x]",
    ),
    "SQL that changes": ("x UPDATE wp_wc_orders SET name='Surname' WHERE id=3", "x"),
    "SQL that asks": ("x SELECT * FROM wp_wc WHERE name = 'Surname'", "x"),
    "SQL, a key": ("Duplicate entry 'Surname-Street 5' for key 'n'", "Duplicate entry '***' for key 'n'"),
    "SQL, an error": ("You have an error near 'Surname' at line 1", "You have an error near '***' at line 1"),
    "SQL, cut off": ("Incorrect string value: 'Surname", "Incorrect string value: '***"),
    "a form": ("x billing_first_name=Vera&billing_last_name=Surname", "x"),
    "a form in HTML": ("x <input name='a' value='Surname'>Street", "x"),
    "one field": ("x _billing_last_name=Surname", "x _"),
    "a multipart form": ('form-data; name="billing_last_name"\r\n\r\nSurname', "form-data;"),
    "lines of text": ("Order 5\nLast name: Surname\nStreet: Street 5", "Order 5 Last"),
    "YAML": ("x\nbilling:\n  last_name: Surname", "x"),
    "CSV": ("last_name,first_name\nSurname,Vera", "data"),
    "columns": ("id\tlast_name\n1\tSurname", "id"),
    "XML": ('<?xml version="1.0"?><a><b>Surname</b></a>', "data"),
    "XML without a head": ("x <last_name>Surname</last_name>", "x"),
    "XML of an order": ("x <order><n>Surname</n></order>", "x"),
    "a table": ("<h1>Orders</h1><table><tr><td>Surname</td></tr>", "Orders"),
    "a list in HTML": ("<h1>Orders</h1><ul><li>Surname</li></ul>", "Orders"),
    "an address in HTML": ("<p>x</p><address>Surname<br>Street 5</address>", "x"),
    "the arguments of a function": ("x in y.php:3\nStack trace:\n#0 y.php(3): f('Surname')", "x in y.php:3"),
    "a card": ("x BEGIN:VCARD\nN:Surname;Vera\nADR:;;Street 5", "x"),
    "fields in Russian": ("x\nФамилия: Surname, Адрес: Street 5", "x"),
    "fields in German": ("x Nachname: Surname Straße: Street 5", "x"),
    "fields in French": ("x Nom: Surname Adresse: Street 5", "x"),
    "fields in Spanish": ("x Apellido: Surname; Dirección: Street", "x"),
    "a field and a blank": ("x last_name Surname address_1 Street", "x"),
    "a field and an arrow": ("x last_name -> Surname, street -> Street", "x"),
    "a recipient": ("x recipient: Surname", "x"),
    "a table in text": ("x | last name | street |\n| Surname | Street |", "x"),
    "columns with blanks": ("Order,Last Name,Street\n5,Surname,Street", "Order"),
    "CSV without names": ("x 5,processing,Vera,Surname,Street", "x"),
    "CSV with semicolons": ("x 5;processing;Vera;Surname;Street", "x"),
    "an attribute that does not end": ('x <div title="Surname Street', "x"),
    "a comment that does not end": ("x <!-- Surname Street", "x"),
    "short tags": ("x <r><ln>Surname</ln></r>", "x"),
    "SQL in small letters": ("x update wp_postmeta set v = 'Surname' where x", "x"),
    "SQL in small letters that asks": ("x select * from wp where n = 'Surname'", "x"),
    "a key that is a name": ('Undefined array key "Surname" in x', 'Undefined array key "***" in x'),
    "a value in a message": ("Invalid address 'Street 5' of x", "Invalid address '***' of x"),
    "a value in other quotes": ("Invalid address «Street 5» of x", "Invalid address «***» of x"),
    "a time that cannot be read": (
        "Failed to parse time string (Surname) at x",
        "Failed to parse time string (***) at x",
    ),
    "JSON with other quotes": ("x {”last”: ”Surname”}", "x"),
    "JSON with quotes of the shell": ("x {`last`: `Surname`}", "x"),
    "JSON with characters that nobody sees": ('x {\u200b"last\u200b":\u200b"Surname"}', "x"),
    "JSON with a NUL behind each letter": ("x " + "\0".join('{"last":"Surname"}'), "x"),
    "JSON in base64": ("x " + b64encode(b'{"last_name":"Surname"}').decode(), "x"),
    "any base64": ("x " + b64encode(b"Surname, Street 5, and somewhere else").decode(), "x"),
    "bytes that are no text": ("x \ufffdlast_name\ufffdSurname", "x"),
    # and what is no data
    "names in quotes": (
        'the "woocommerce/orders-list" of \'wp_x\', "id"',
        'the "woocommerce/orders-list" of \'wp_x\', "id"',
    ),
    "an apostrophe": ("couldn't be read, don't ask", "couldn't be read, don't ask"),
    "tags of a page": ("<main><h1>Sorry</h1><p>x</p></main>", "Sorry x"),
    "a notice": ("PHP Warning: x on line 1234", "PHP Warning: x on line 1234"),
    "a missing key": (
        'Undefined array key "last_name" in /a.php',
        'Undefined array key "last_name" in /a.php',
    ),
    "a missing index": ("Undefined index: last_name in /a.php", "Undefined index: last_name in /a.php"),
    "an element of PHP": ("Notice: x[] in /a.php on line 3", "Notice: x[] in /a.php on line 3"),
    "input of a tool": ("Reason: input[per_page] must be 1", "Reason: input[per_page] must be 1"),
    "a comment": ("<!-- cached 3 s ago -->", "cached 3 s ago"),
    "a function": ("Call to undefined function f()", "Call to undefined function f()"),
}


@pytest.mark.parametrize("name", QUOTES)
def test_a_quote_stops_where_data_begin(name: str) -> None:
    said, quoted = QUOTES[name]
    assert quote(said) == quoted
    assert quote(f"<b>{said}") in {quoted, "data"}


@pytest.mark.parametrize("name", QUOTES)
async def test_data_come_neither_into_the_preamble_nor_into_an_error(shop: ScriptedShop, name: str) -> None:
    said, _ = QUOTES[name]
    private = [word for word in PRIVATE if word in said]
    for before, after in ((said + "\n", ""), ("", "\n" + said), ("", " " + said)):
        shop.on_question(REST.reply(compact([ONE]), before, after))
        async with source_of(REST, shop) as source:
            try:
                preamble = (await source.fetch(ASK)).preamble
            except ShopPollerError as error:  # what was said may look like an answer that is cut off
                preamble = str(error)
        assert not any(word in preamble for word in private)
    await refused(shop, REST, body(said))
    await refused(shop, REST, page(said, 500))
    await refused(shop, MCP, answer({"isError": True, "content": [{"type": "text", "text": said}]}))
    await refused(shop, MCP, answer({"content": [{"type": "text", "text": said}]}))
    failure = {"code": said, "message": said, "data": {"status": 500}}
    await refused(shop, REST, body(compact(failure), status=500))


def test_a_quote_is_found_in_linear_time() -> None:
    began = time.process_time()
    for piece in (
        "[",
        "{a",
        "<script>",
        "a=",
        "'",
        "Array (",
        "x" * 80 + "=",
        "&quot;",
        "\\",
        "billing_",
        "<",
        "s:1",
    ):
        quote(piece * 1_000_000)
    assert time.process_time() - began < 5  # it takes a moment
