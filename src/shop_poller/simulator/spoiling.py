"""The form of one fault in each dialect: changes a response."""

import json
import re
from dataclasses import replace

from shop_poller.simulator.answers import JSON_TYPE, NO_CACHE, Answer, Request, php_json, wordpress_error
from shop_poller.simulator.orders import JsonObject
from shop_poller.simulator.routes import (
    MCP_DIALECTS,
    ORDERS_QUERY,
    SimulatedDialect,
    asks_for_orders,
    dialect_of,
)
from shop_poller.simulator.tools import failure, success

_CRITICAL = (
    "<p>There has been a critical error on this website.</p><p>"
    '<a href="https://wordpress.org/documentation/article/faq-troubleshooting/">'
    "Learn more about troubleshooting WordPress.</a></p>"
)


HIDDEN_REASON = "An error occurred while executing the tool."
_FAILURE = re.compile(rb'("content":\[\{"type":"text","text":")((?:[^"\\]|\\.)*)("\}\],"isError":true)')


def without_reasons(answer: Answer) -> Answer:
    """Replace the texts of a tool's failures as the bundled adapter does: one text for all but rights."""

    def hide(found: re.Match[bytes]) -> bytes:
        text = found[2] if found[2].startswith(b"Permission denied") else HIDDEN_REASON.encode()
        return found[1] + text + found[3]

    return (
        replace(answer, body=_FAILURE.sub(hide, answer.body)) if b'"isError":true' in answer.body else answer
    )


def wp_die(status: int, message: str, headers: dict[str, str]) -> Answer:
    """Return WordPress's failure before its REST server has started."""
    error = {**wordpress_error("wp_die", message, status), "additional_errors": []}
    return Answer(status, php_json(error).encode(), {"Content-Type": JSON_TYPE, **headers, **NO_CACHE})


def critical_error(answer: Answer) -> Answer:
    """Return the response of WordPress's last handler after PHP died in the middle."""
    error = {**wordpress_error("internal_server_error", _CRITICAL, 500), "additional_errors": []}
    headers = {name: value for name, value in answer.headers.items() if name != "Allow"}
    return replace(answer, status=500, body=php_json(error).encode(), headers=headers)


def fatal(answer: Answer, request: Request, text: str) -> Answer:
    """PHP throws during the request: an MCP server catches that, nothing else does."""
    if not is_good(answer, request):
        return answer
    match dialect_of(request):
        case SimulatedDialect.WOOCOMMERCE_MCP:
            return _with_result(answer, failure(text))
        case SimulatedDialect.ABILITIES if asks_for_orders(request):
            thrown = f'Ability "{ORDERS_QUERY}" callback threw an exception: {text}'
            return _with_result(answer, failure(thrown))
        case SimulatedDialect.REST | SimulatedDialect.EXECUTE:
            return critical_error(answer)
        case _:
            return answer


def refusal(answer: Answer, request: Request, error: JsonObject) -> Answer:
    """The REST API refuses: plainly, or as the data of a success, or as an ability's text."""
    if not is_good(answer, request):
        return answer
    match dialect_of(request):
        case SimulatedDialect.WOOCOMMERCE_MCP:
            return _with_result(answer, success({"data": error}))
        case SimulatedDialect.ABILITIES if asks_for_orders(request):
            return _with_result(answer, failure(error["message"]))
        case SimulatedDialect.EXECUTE:
            return replace(answer, body=php_json({"data": error}).encode())
        case SimulatedDialect.REST:
            return replace(answer, status=error["data"]["status"], body=php_json(error).encode())
        case _:
            return answer


def with_page_of(answer: Answer, request: Request, kept: Answer) -> Answer:
    """Return an older response in place of a new one; a JSON-RPC response keeps its id."""
    if dialect_of(request) in MCP_DIALECTS:
        return _with_result(answer, json.loads(kept.body)["result"])
    return kept


def is_good(answer: Answer, request: Request) -> bool:
    """Return whether a response has no error of the keys, the session or the call."""
    if answer.status != 200:
        return False
    if dialect_of(request) not in MCP_DIALECTS:
        return True
    try:
        return "result" in json.loads(answer.body)
    except ValueError:  # another fault has changed it already
        return False


def _with_result(answer: Answer, result: JsonObject) -> Answer:
    return replace(answer, body=php_json({**json.loads(answer.body), "result": result}).encode())
