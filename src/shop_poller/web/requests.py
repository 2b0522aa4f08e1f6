"""Reads requests: the body, the form, the language. All of it is bounded."""

from collections.abc import Mapping
from urllib.parse import parse_qs

import anyio
from starlette.requests import ClientDisconnect, Request

from shop_poller.core.messages import Locale

MAX_BODY = 4096
READ_S = 5.0
MAX_SEQ = 2**63 - 1
MOST_EVENTS = 100
MOST_SELECTED = 200
"""Shops of one action."""
MAX_SELECTION = 32 * 1024


class ActionRefusedError(Exception):
    """An action is refused.

    Attributes:
        status: of the response.
        text: the reason, a name in locales/*/page.toml.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


async def read_body(request: Request, limit: int) -> bytes | None:
    """The body of a request; None if it is longer than the limit. Nothing beyond the limit is read.

    Raises:
        ClientDisconnect: the request ended early.
    """
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            return None
        body += chunk
    return bytes(body)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; the first of several with one name."""
    fields = await _read_fields(request, limit=MAX_BODY, most=8)
    return {name: values[0] for name, values in fields.items()}


async def _read_fields(request: Request, *, limit: int, most: int) -> dict[str, list[str]]:
    try:
        with anyio.fail_after(READ_S):
            body = await read_body(request, limit)
    except (TimeoutError, ClientDisconnect):
        raise ActionRefusedError(408, "failed") from None
    if body is None:
        raise ActionRefusedError(413, "failed")
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=most, keep_blank_values=True)
    except ValueError:
        raise ActionRefusedError(400, "failed") from None


async def read_selection(request: Request) -> tuple[list[str], dict[str, str]]:
    """The selected shops, each once, and the other fields of a form.

    Raises:
        ActionRefusedError: there is no form, or too many shops are selected.
    """
    try:
        fields = await _read_fields(request, limit=MAX_SELECTION, most=MOST_SELECTED + 8)
    except ActionRefusedError as error:
        raise ActionRefusedError(error.status, "too many selected") from None
    shops = list(dict.fromkeys(fields.pop("shop", [])))
    if len(shops) > MOST_SELECTED:
        raise ActionRefusedError(413, "too many selected")
    return shops, {name: values[0] for name, values in fields.items()}


def read_seq(fields: Mapping[str, str]) -> int:
    """The number of a dead letter; 0 if there is none."""
    text = fields.get("seq", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    return number if number <= MAX_SEQ else 0


def read_mute(fields: Mapping[str, str], longest_s: float) -> tuple[str, int]:
    """The name of a sink, and the seconds to mute it.

    Raises:
        ActionRefusedError: the seconds are no number from 1 to the longest time.
    """
    text = fields.get("seconds", "")
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 0 < seconds <= longest_s:
        raise ActionRefusedError(400, "no time")
    return fields.get("sink", ""), seconds


def read_events(fields: Mapping[str, str]) -> list[str]:
    """The names of events, separated by commas; none for all events, if there is no such field.

    Raises:
        ActionRefusedError: there are too many, or the field names none.
    """
    found = [name for name in fields.get("events", "").split(",") if name]
    if len(found) > MOST_EVENTS or ("events" in fields and not found):
        raise ActionRefusedError(400, "no event")
    return found


def read_locale(chosen: str, accepted: str, default: Locale) -> Locale:
    """The chosen language; else the first of ours that the browser accepts; else the default."""
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted[:500].split(",")):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if quality > 0:
            wanted.append((-quality, place, tag.strip().lower().partition("-")[0]))
    for tag in (chosen, *(tag for _, _, tag in sorted(wanted))):
        if tag == "ru":
            return "ru"
        if tag == "en":
            return "en"
    return default
