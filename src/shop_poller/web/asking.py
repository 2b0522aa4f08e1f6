"""Reads what a browser sends: its languages and its forms. All of it is bounded."""

from collections.abc import Mapping
from urllib.parse import parse_qs

import anyio
from starlette.requests import ClientDisconnect, Request

from shop_poller.core.messages import Locale
from shop_poller.web.body import read_body

MAX_BODY = 4096
READ_S = 5.0
MAX_SEQ = 2**63 - 1


class ActionRefusedError(Exception):
    """A requested action was not carried out.

    Attributes:
        status: the status of the response.
        text: the reason, a key of words.TEXTS.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form. If a name occurs more than once, the first value counts."""
    try:
        with anyio.fail_after(READ_S):
            body = await read_body(request, MAX_BODY)
    except (TimeoutError, ClientDisconnect):
        raise ActionRefusedError(408, "failed") from None
    if body is None:
        raise ActionRefusedError(413, "failed")
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
    except ValueError:
        raise ActionRefusedError(400, "failed") from None
    return {name: values[0] for name, values in fields.items()}


def read_seq(fields: Mapping[str, str]) -> int:
    """Return the number of the dead letter; 0 if there is none."""
    text = fields.get("seq", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    return number if number <= MAX_SEQ else 0


def read_locale(chosen: str, accepted: str, default: Locale) -> Locale:
    """Return the chosen language; else the browser's first choice that we have; else the default."""
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
