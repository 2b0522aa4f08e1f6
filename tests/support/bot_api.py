"""A made-up Telegram Bot API on a real socket."""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "7012345678:AAF-made_up_token_of_35_characters_"
BOT = "honey_orders_bot"
UNAUTHORIZED = (401, "Unauthorized")
HAS_WEBHOOK = (
    409,
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook"
    " first",
)
OTHER_READER = (
    409,
    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
)
TOO_MANY = (429, "Too Many Requests: retry after 7")

PRIVATE: dict[str, Any] = {
    "id": 777,
    "type": "private",
    "first_name": "Анна",
    "last_name": "Иванова",
    "username": "anna",
}
GROUP: dict[str, Any] = {"id": -4001, "type": "group", "title": "Заказы"}
SUPERGROUP: dict[str, Any] = {"id": -1001234567890, "type": "supergroup", "title": "Склад"}
CHANNEL: dict[str, Any] = {"id": -1009876543210, "type": "channel", "title": "Новости"}


def message(chat: dict[str, Any], update_id: int = 1, **more: Any) -> dict[str, Any]:
    """An update: somebody wrote in a chat."""
    return {"update_id": update_id, "message": {"message_id": 1, "chat": chat, "text": "/start", **more}}


def member(chat: dict[str, Any], status: str, update_id: int = 1) -> dict[str, Any]:
    """An update: the bot was added to a chat, or removed from it."""
    return {"update_id": update_id, "my_chat_member": {"chat": chat, "new_chat_member": {"status": status}}}


@dataclass
class FakeBotApi:
    """Knows one bot.

    Attributes:
        troubles: what the next calls of a method are refused with, in order; bytes are sent as they are.
        updates: what was written to the bot.
        empty: how many times getUpdates has nothing yet.
        calls: every method that was called, with its parameters.
        sent: what sendMessage accepted.
        slow: no call is answered before the server is closed.
        hold: getUpdates is not answered before the server is closed.
    """

    url: str = ""
    troubles: dict[str, deque[tuple[int, str] | bytes]] = field(default_factory=dict)
    updates: list[Any] = field(default_factory=list)
    empty: int = 0
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    slow: bool = False
    hold: bool = False
    closing: threading.Event = field(default_factory=threading.Event)

    def refuse(self, method: str, *troubles: tuple[int, str] | bytes) -> None:
        """Refuse the next calls of a method."""
        self.troubles[method] = deque(troubles)

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    def answer(self, token: str, method: str, parameters: dict[str, Any]) -> tuple[int, bytes]:
        self.calls.append((method, parameters))
        if self.slow or (self.hold and method == "getUpdates"):
            self.closing.wait()
        if token != TOKEN:
            return _refusal(*UNAUTHORIZED)
        if waiting := self.troubles.get(method):
            trouble = waiting.popleft()
            return (200, trouble) if isinstance(trouble, bytes) else _refusal(*trouble)
        if method == "getMe":
            return _ok({"id": 7012345678, "is_bot": True, "first_name": "Заказы", "username": BOT})
        if method == "getUpdates":
            if self.empty > 0:
                self.empty -= 1
                return _ok([])
            first, most = parameters.get("offset", 0), parameters["limit"]
            return _ok([one for one in self.updates if one["update_id"] >= first][:most])
        assert method == "sendMessage", method
        self.sent.append(parameters)
        return _ok({"message_id": len(self.sent), "chat": {"id": parameters["chat_id"]}})


def _ok(result: object) -> tuple[int, bytes]:
    return 200, json.dumps({"ok": True, "result": result}).encode()


def _refusal(code: int, description: str) -> tuple[int, bytes]:
    return code, json.dumps({"ok": False, "error_code": code, "description": description}).encode()


@contextmanager
def bot_api() -> Iterator[FakeBotApi]:
    """Serve the API until the block ends."""
    fake = FakeBotApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            first, _, method = self.path.removeprefix("/bot").partition("/")
            if "/" in method or not self.path.startswith("/bot"):
                status, content = 404, b"<html>This page is blocked</html>"
            else:
                status, content = fake.answer(first, method, json.loads(body))
            with suppress(ConnectionError):  # a client that waited for a slow answer has left
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield fake
    finally:
        fake.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
