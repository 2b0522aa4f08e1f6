"""What an MCP endpoint's bytes mean: a JSON-RPC result, a tool's result, or one of our errors. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce.answers import COMMON_ADVICE, Advice, no_answer, of_kind, parse, quote
from shop_poller.sources.woocommerce.rows import describe, find_error, find_rows
from shop_poller.sources.woocommerce.rpc_errors import (
    NO_TOOL,
    SESSION_LOST,
    maybe_lost,
    rpc_error,
    wordpress_error,
)

RPC_ANSWER = Text("an answer of JSON-RPC")
MAX_BLOCKS = 100
"""Content blocks of a tool's result that are read."""

INVALID_OUTPUT = re.compile(r"\boutput\[\w{1,50}\]|has invalid output")
"""The path is not translated; the words may be."""

NO_ABILITY = re.compile(
    r"\bability\s+['\"]?[\w/-]{1,100}['\"]?\s+(?:is |was )?not (?:found|registered)", re.IGNORECASE
)
"""WordPress has no such ability. One adapter reports it as "Permission denied: Ability … not found"."""


class UnexplainedError(TemporaryError):
    """A tool failed with a text that does not say whether an order or the shop is the cause.

    Attributes:
        said: the shop's own text; long, and not for people.
        shop_time: the shop's clock when it answered; None if not known.
    """

    def __init__(self, message: str, said: str, shop_time: datetime | None) -> None:
        super().__init__(ErrorKind.SERVER, message)
        self.said = said
        self.shop_time = shop_time


class InvalidOutputError(PermanentError):
    """A tool's answer breaks the tool's own schema, so the shop does not send it.

    Attributes:
        said: the shop's own text; long, and not for people.
        shop_time: the shop's clock when it answered; None if not known.
    """

    def __init__(self, said: str, shop_time: datetime | None) -> None:
        super().__init__(ErrorKind.REJECTED, Text("the shop says: {words}", words=quote(said)))
        self.said = said
        self.shop_time = shop_time


@dataclass(frozen=True, slots=True)
class RpcResult:
    """A JSON-RPC result.

    Attributes:
        preamble: one line of the text before it; "" if there is none.
    """

    result: Any
    preamble: str = ""


def read_answer(
    request_id: int,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    advice: Advice = COMMON_ADVICE,
    *,
    in_session: bool = False,
) -> RpcResult:
    """Read the answer to a JSON-RPC call.

    Args:
        request_id: the id of the call.
        status: the HTTP status.
        headers: the headers, with lower-case names.
        body: the unpacked body; for an event stream, the data of the event that answers.
        advice: the dialect's advice.
        in_session: whether the call contained the id of a session.

    Raises:
        SessionLostError: the session is or may be lost: initialize again.
        TemporaryError, PermanentError: the answer says anything else.
    """
    payload, preamble = parse(body)
    payload = own_answer(payload, request_id)
    if not isinstance(payload, dict) or status == 429:
        raise maybe_lost(
            status,
            no_answer(RPC_ANSWER, status, headers, body, payload=payload, advice=advice),
            body,
            in_session=in_session,
        )
    error = payload.get("error")
    if isinstance(error, dict) and (error or "result" not in payload):
        raise rpc_error(error, status, headers, advice, in_session=in_session)
    if "code" in payload and "jsonrpc" not in payload:
        raise maybe_lost(*wordpress_error(payload, status, headers, advice), body, in_session=in_session)
    if "result" not in payload or not (200 <= status < 300 or _names_call(payload, request_id)):
        raise maybe_lost(
            status,
            no_answer(RPC_ANSWER, status, headers, body, payload=payload, advice=advice),
            body,
            in_session=in_session,
        )
    if not answers(payload, request_id):
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text("the shop answered another question than ours; a cache may be in front of its MCP address"),
        )
    return RpcResult(payload["result"], preamble)


def own_answer(payload: object, request_id: object) -> object:
    """Return the response to a call from a list or a wrapper; the payload itself if there is none in it.

    Until revision 2025-03-26, a response could be sent in a list. Some servers still send a list of one.
    """
    listed: list[object] = []
    if isinstance(payload, list):
        listed = payload[:MAX_BLOCKS]
    elif isinstance(payload, dict) and not payload.keys() & {"jsonrpc", "result", "error"}:
        listed = list(payload.values())[:MAX_BLOCKS]
    own = (item for item in listed if isinstance(item, dict) and is_response(item, request_id))
    return next((item for item in own if "jsonrpc" in item), payload)


def is_response(message: Mapping[str, Any], request_id: object) -> bool:
    """Return whether a message answers our call. Others have no id, or are requests from the server."""
    if "method" in message or not isinstance(request_id, int):
        return False
    return ("result" in message or "error" in message or "id" in message) and answers(message, request_id)


def _names_call(payload: Mapping[str, Any], request_id: int) -> bool:
    """Return whether a result certainly belongs to the call, so that the HTTP status does not matter."""
    return "jsonrpc" in payload and payload.get("id") is not None and answers(payload, request_id)


def answers(payload: Mapping[str, Any], request_id: int) -> bool:
    """Return whether a JSON-RPC response belongs to a call, the only one in progress.

    Some servers return the number as text or as a float, or omit it. Any other id is refused, because a cache
    may repeat the answer to an earlier call.
    """
    echoed = payload.get("id")
    if echoed is None:
        return True
    if isinstance(echoed, str):
        text = echoed.strip()
        whole, _, fraction = text.partition(".")
        return whole == str(request_id) and not fraction.strip("0")
    return not isinstance(echoed, bool) and isinstance(echoed, int | float) and echoed == request_id


def is_lost_in_words(result: Any) -> bool:
    """Return whether a tool's failure says that the session is lost."""
    if not isinstance(result, dict) or not result.get("isError"):
        return False
    return any(SESSION_LOST.search(text) for block in _blocks(result) for text in _texts(block))


def read_tool_result(
    result: Any, advice: Advice = COMMON_ADVICE, shop_time: datetime | None = None
) -> dict[str, Any]:
    """Return the object that a tool returned; a list is read as `{"data": list}`.

    It may be in `structuredContent`, as JSON in a text or a resource of `content`, or in several of these,
    one of which is empty. The first one with rows counts. If none has rows, the first object or list counts.

    Raises:
        InvalidOutputError: the tool's answer breaks the tool's own schema.
        TemporaryError, PermanentError: the tool reports another failure, or returned no object or list.
    """
    if isinstance(result, list) and find_rows(result):
        return {"data": result}
    if not isinstance(result, dict):
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text("the shop's tool returned {describe}, no object", describe=describe(result)),
        )
    texts = [text for block in _blocks(result) for text in _texts(block)]
    if result.get("isError") and result["isError"] not in ("false", "0"):
        raise tool_error(next(iter(texts), ""), advice, shop_time)
    first: dict[str, Any] | None = None
    for content in _contents(result, texts):
        whole = {"data": content} if isinstance(content, list) else content
        if find_rows(whole) or find_error(whole):
            return whole
        first = whole if first is None else first
    if first is None:
        raise TemporaryError(
            ErrorKind.PROTOCOL, Text("the shop's tool returned {instead}", instead=_instead(result, texts))
        )
    return first


def tool_error(text: str, advice: Advice, shop_time: datetime | None) -> ShopPollerError:
    """Return the error for a tool's failure, which arrives as HTTP 200 with only a text."""
    said = Text("the shop says: {words}", words=quote(text) or Text("nothing"))
    if text.startswith('Ability "') and "threw an exception" in text:
        return _unexplained(said, text, advice, shop_time)
    if INVALID_OUTPUT.search(text):
        return InvalidOutputError(text, shop_time)
    if NO_ABILITY.search(text) or NO_TOOL.search(text):
        return of_kind(ErrorKind.NOT_FOUND, said, advice)
    if text.startswith("Permission denied") or "does not have necessary permission" in text:
        return of_kind(ErrorKind.AUTHENTICATION, said, advice)
    if text.startswith('Ability "'):
        return of_kind(ErrorKind.REJECTED, said, advice)
    return _unexplained(said, text, advice, shop_time)


def _unexplained(said: str, text: str, advice: Advice, shop_time: datetime | None) -> UnexplainedError:
    return UnexplainedError(of_kind(ErrorKind.SERVER, said, advice).text, text, shop_time)


def _contents(result: Mapping[str, Any], texts: Sequence[str]) -> Iterator[dict[str, Any] | list[Any]]:
    """Yield what a tool may have returned, the most likely first. PHP writes an empty object as []."""
    structured = result.get("structuredContent")
    if isinstance(structured, str):
        structured, _ = parse(structured.encode("utf-8", "replace"))
    if isinstance(structured, dict | list) and structured:
        yield structured
    for text in texts:
        said, _ = parse(text.encode("utf-8", "replace"))
        if isinstance(said, dict | list) and said != {}:
            yield said
    if len(texts) > 1:  # one text may be split into several blocks
        said, _ = parse("".join(texts).encode("utf-8", "replace"))
        if isinstance(said, dict | list) and said != {}:
            yield said
    for block in _blocks(result):
        for key in ("json", "data"):
            if isinstance(block.get(key), dict | list) and block[key]:
                yield block[key]


def _blocks(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = result.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if isinstance(content, dict):  # one block, or a PHP list that became an object
        content = [content] if "type" in content else list(content.values())
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks[:MAX_BLOCKS] if isinstance(block, dict)]


def _texts(block: Mapping[str, Any]) -> list[str]:
    resource = block.get("resource")
    own = [block.get("text"), resource.get("text") if isinstance(resource, dict) else None]
    return [text for text in own if isinstance(text, str)]


def _instead(result: Mapping[str, Any], texts: Sequence[str]) -> str:
    """Describe what a tool returned instead of an object or a list."""
    said = next(filter(None, map(quote, texts)), "")
    if said:
        return Text("only text ({said})", said=said)
    if "structuredContent" in result:
        return Text("{describe} without anything in it", describe=describe(result["structuredContent"]))
    return Text("nothing at all")
