"""Reads the exchanges recorded from a real shop (tests/data/wire)."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIRE = Path(__file__).parent.parent / "data" / "wire"


@dataclass(frozen=True)
class Message:
    """One side of an exchange; header names are lower-case."""

    start: str
    headers: dict[str, str]
    body: bytes

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def path(self) -> str:
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Exchange:
    request: Message
    response: Message


def load(name: str) -> Exchange:
    """Read one exchange by its name, such as session/initialize or 2026-11/rest-fields."""
    raw = (WIRE / f"{name}.http").read_bytes()
    if not raw.startswith(b"# REQUEST"):  # the form of 2026-11: the answer begins with HTTP's first line
        start = raw.index(b"\nHTTP/1.1 ")
        return Exchange(_message(raw[:start] + b"\n\n"), _message(raw[start + 1 :]))
    _, request, _, response = re.split(rb"^# (REQUEST|RESPONSE[^\n]*)\r?\n", raw, flags=re.MULTILINE)[1:]
    return Exchange(_message(request), _message(response))


def request(name: str) -> Message:
    """Read a request that was recorded without its answer, such as webhook/webhook-01."""
    return _message((WIRE / f"{name}.http").read_bytes())


def names(folder: str) -> list[str]:
    """The names of all exchanges in a folder, for parametrize."""
    return sorted(f"{folder}/{path.stem}" for path in (WIRE / folder).glob("*.http"))


def orders_by_status() -> dict[str, dict[str, Any]]:
    """One full order a status, as WooCommerce sends it."""
    data: dict[str, dict[str, Any]] = json.loads((WIRE / "orders/orders-by-status.json").read_text())
    return data


def _message(raw: bytes) -> Message:
    head, _, body = re.split(rb"(\r?\n\r?\n)", raw, maxsplit=1)
    start, *lines = head.decode().splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    return Message(start, {k.lower(): v for k, v in headers.items()}, body.strip(b"\r\n"))
