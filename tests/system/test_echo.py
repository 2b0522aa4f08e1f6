"""A shop that sends back what it was sent, in every form: nothing that leaves the process has any of it."""

import base64
import html
import json
import socketserver
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from support.commands import FAST, PLAIN, wait_until
from support.site import Site

KEY = "ck_4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6"
SECRET = "cs_9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d"
HOOK = "hook-s3cret-Qx7zVn4kTp"
TOKEN = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
QUERY = "tkn4Wd8RmZq1Lx6Bv9"


def in_pieces(text: str, length: int = 12) -> set[str]:
    return {text[at : at + length].lower() for at in range(len(text) - length + 1)}


LEAKS = set[str]().union(
    *(
        in_pieces(form)
        for secret in (KEY, SECRET, HOOK, QUERY)
        for form in (
            secret,
            secret.encode().hex(),
            *(
                base64.b64encode(b"-" * shift + secret.encode()).decode()[shift + 2 : -4]
                for shift in range(3)
            ),
        )
    ),
    *(in_pieces("".join(f"{before}{byte:02x}" for byte in SECRET.encode())) for before in ("%", "\\u00")),
)


def leaked(text: str) -> set[str]:
    return in_pieces(text) & LEAKS


def answer(body: str, *, status: str = "500 No", headers: str = "", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nDate: {formatdate(usegmt=True)}\r\nContent-Type: {kind}\r\n{headers}"
    return f"{head}Content-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n{body}".encode()


def order(**changes: object) -> str:
    at = "2026-11-23T09:50:00"
    fields = {
        "id": 7,
        "status": "processing",
        "number": "7",
        "total": "10.00",
        "currency": "EUR",
        "currency_symbol": "€",
        "billing": {"first_name": "Anna"},
        "date_created_gmt": at,
        "date_modified_gmt": at,
        "date_paid_gmt": at,
        "refunds": [],
    }
    return json.dumps([fields | changes])


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


ALL = f"{HOOK} {KEY} {SECRET} Basic {TOKEN}"
"""What the shop knows."""
ECHOES: dict[str, Callable[[str], bytes]] = {
    "as a status line": lambda head: f"{head}\r\n\r\n".encode(),
    "as a status": lambda head: f"HTTP/1.1 {head}\r\n\r\n".encode(),
    "as a version": lambda head: f"HTTP/{head} 200 OK\r\n\r\n".encode(),
    "as a reason": lambda head: answer("", status=f"500 {head} {ALL}"),
    "as a header without a colon": lambda head: answer("x", headers=f"{head}\r\n"),
    "as the name of a header": lambda _: answer("x", headers=f"{SECRET}: x\r\n{TOKEN}: y\r\n"),
    "as a length": lambda _: f"HTTP/1.1 200 OK\r\nContent-Length: {TOKEN}\r\n\r\n".encode(),
    "as two lengths": lambda _: (
        f"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: {SECRET}\r\n\r\n".encode()
    ),
    "as a coding": lambda _: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {SECRET}\r\n\r\n".encode(),
    "as the size of a chunk": lambda _: (
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n{TOKEN}\r\n".encode()
    ),
    "as where to go": lambda _: answer(
        "",
        status="302 Found",
        headers=f"Location: https://shop.example/{SECRET}/{percent(KEY)}?a={TOKEN}\r\n",
    ),
    "as where the API is": lambda _: answer(
        "<h1>no</h1>",
        status="404 No",
        kind="text/html",
        headers=f'Link: <https://shop.example/{SECRET}/>; rel="https://api.w.org/"\r\n',
    ),
    "as when to come again": lambda head: answer(head, status="429 No", headers=f"Retry-After: {ALL}\r\n"),
    "as a page": lambda head: answer(f"<html><body>{head} {ALL}</body></html>", kind="text/html"),
    "as a page with HTML's escapes": lambda _: answer(
        f"<h1>{html.escape(ALL)} {''.join(f'&#{ord(char)};' for char in ALL)}</h1>", kind="text/html"
    ),
    "as a firewall's page": lambda head: answer(f"<h1>{head}</h1>", status="200 OK", kind="text/html"),
    "as a message": lambda head: answer(json.dumps({"code": "no", "message": f"{head} {ALL}"})),
    "as a code": lambda _: answer(json.dumps({"code": SECRET, "message": percent(SECRET)})),
    "as a message with JSON's escapes": lambda _: answer(f'{{"code":"no","message":"{escaped(ALL)}"}}'),
    "as a message in percent": lambda _: answer(json.dumps({"code": "no", "message": percent(percent(ALL))})),
    "as a message in hexadecimal": lambda _: answer(
        json.dumps({"code": "no", "message": SECRET.encode().hex()})
    ),
    "as a message in base64": lambda _: answer(
        json.dumps({"code": "no", "message": base64.b64encode(f"ab{ALL}".encode()).decode()})
    ),
    "as a message that is cut": lambda _: answer(
        json.dumps({"code": "no", "message": f"{SECRET[:30]}… {TOKEN[:50]}... {KEY[:20]}"})
    ),
    "behind a long text": lambda _: answer("no " * 61 + ALL, kind="text/plain"),
    "as a notice before an order": lambda head: answer(f"Notice: {head} {ALL} {order()}", status="200 OK"),
    "as a name": lambda _: answer(order(billing={"first_name": f"{ALL}"}), status="200 OK"),
    "as a name with JSON's escapes": lambda _: answer(
        order(billing={"first_name": "@@"}).replace("@@", escaped(ALL)), status="200 OK"
    ),
    "as a status of an order": lambda _: answer(order(status=SECRET), status="200 OK"),
    "as numbers of an order": lambda _: answer(
        order(number=KEY, currency=KEY[:10], currency_symbol=SECRET[:20], total=SECRET), status="200 OK"
    ),
}


class Echo(socketserver.ThreadingTCPServer):
    """The shop; answers whatever `echo` makes of the head of a request, in one line."""

    allow_reuse_address = True
    daemon_threads = True
    echo: Callable[[str], bytes] = staticmethod(lambda _: b"")
    heard = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/wp-json/wc/v3/orders?token={QUERY}"


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Echo)
        head: list[str] = []
        while line := self.rfile.readline().decode("latin-1").strip():
            head.append(line)
        if head:
            self.server.heard += 1
            self.wfile.write(self.server.echo(" ".join(head)))


@contextmanager
def echoing() -> Iterator[Echo]:
    with Echo(("127.0.0.1", 0), Handler) as shop:
        thread = threading.Thread(target=shop.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield shop
        finally:
            shop.shutdown()
            thread.join()


def settings_for(site: Site, shop: Echo) -> None:
    site.settings.update(
        WOOCOMMERCE_MCP_URL=shop.url,
        WOOCOMMERCE_CONSUMER_KEY=KEY,
        WOOCOMMERCE_CONSUMER_SECRET=SECRET,
        SHOP_WEBHOOK_SECRET=HOOK,
        SHOP_DIALECT="rest",
        SHOP_LOG_LEVEL="debug",
        SHOP_INITIAL_LOOKBACK="2592000",
    )


def files(site: Site) -> str:
    """The bytes of every file that it has written."""
    paths = [path for path in Path(site.home).rglob("*") if path.is_file()]
    return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in paths)


BELOW_HTTP = [name for name in ECHOES if "status" in name or "header" in name or "length" in name]
EACH = [(name, PLAIN) for name in ECHOES] + [(name, FAST) for name in BELOW_HTTP]


@pytest.mark.parametrize(
    ("name", "extra"), EACH, ids=[f"{name}, {'fast' if extra is FAST else 'plain'}" for name, extra in EACH]
)
def test_what_a_shop_sends_back_is_in_no_output(site: Site, name: str, extra: dict[str, str]) -> None:
    site.settings |= extra
    with echoing() as shop:
        shop.echo = ECHOES[name]
        settings_for(site, shop)
        outputs = {}
        for args in (["check"], ["run", "--once"], ["status"]):
            done = site.run(*args)
            outputs[" ".join(args)] = done.stdout + done.stderr
            assert "Traceback" not in done.stderr
        assert shop.heard
    outputs["files"] = files(site)
    outputs["notifications"] = "\n".join(post.body.decode() for post in site.receiver.posts)
    assert {where: leaked(text) for where, text in outputs.items() if leaked(text)} == {}


@pytest.mark.parametrize("extra", [PLAIN, FAST], ids=["plain", "fast"])
@pytest.mark.parametrize("name", ["as a status line", "as a status", "as a message with JSON's escapes"])
def test_it_is_not_on_the_page_either(site: Site, name: str, extra: dict[str, str]) -> None:
    site.settings |= extra
    with echoing() as shop:
        shop.echo = ECHOES[name]
        settings_for(site, shop)
        with site.daemon() as daemon:
            wait_until(lambda: "error_type" in daemon.stderr, "a trouble in the log")
            wait_until(lambda: shop.heard > 1, "another look")
            outputs = {path: daemon.get(path).text for path in ("/", "/metrics", "/healthz", "/readyz")}
            outputs["files"] = files(site)
        outputs["log"] = daemon.stdout + daemon.stderr
    assert {where: leaked(text) for where, text in outputs.items() if leaked(text)} == {}


def test_this_would_find_it() -> None:
    for text in (ALL, TOKEN, SECRET.encode().hex(), escaped(SECRET), percent(SECRET), SECRET[5:20], QUERY):
        assert leaked(f"-{text}-"), text
    assert not leaked(urllib.parse.quote("nothing of the kind, Basic ck_ cs_ 1234567890"))
