"""What an error of the shop's tells people: the right cause, and one piece of advice that fits it."""

import httpx
import pytest

from shop_poller.cli.check_result import SHOP_ADVICE, advised
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Query
from shop_poller.http.client import http_transport, transport_errors
from shop_poller.http.response_repair import ForbiddenHeadError
from shop_poller.sources.woocommerce import answers, rest, woocommerce_mcp
from shop_poller.sources.woocommerce.listing import read_items

RETRY = {"retry-after": "600"}


@pytest.mark.parametrize("advice", [rest.ADVICE, woocommerce_mcp.ADVICE], ids=["rest", "woocommerce-mcp"])
@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (503, RETRY, "the shop is probably being updated"),
        (503, {}, "the shop's server is overloaded, restarting or being updated"),
        (502, {}, "PHP is restarting or down"),
        (502, RETRY, "PHP is restarting or down"),
        (504, {}, "PHP did not answer the web server in time"),
    ],
)
def test_only_a_503_that_names_a_time_is_called_an_update(
    advice: answers.Advice, status: int, headers: dict[str, str], said: str
) -> None:
    error = answers.http_error(status, headers, b"<html><title>Bad</title></html>", advice)
    assert error.kind is ErrorKind.UNAVAILABLE
    assert str(error).startswith(f"the shop answered {status}: Bad; {said}")
    assert ("updated" in str(error)) == (status == 503)


@pytest.mark.parametrize("status", [*range(520, 528), 530])
def test_what_cloudflare_says_of_a_shop_comes_with_advice(status: int) -> None:
    said = str(answers.http_error(status, {}, b""))
    assert "updated" not in said
    assert said.count("; ") == 1


@pytest.mark.parametrize("advice", [rest.ADVICE, woocommerce_mcp.ADVICE], ids=["rest", "woocommerce-mcp"])
@pytest.mark.parametrize(
    "api",
    ["https://shop.example/api/", "https://shop.example/?rest_route=/", "https://shop.example/wp-json/"],
)
def test_the_address_that_the_shop_names_is_the_only_advice(advice: answers.Advice, api: str) -> None:
    link = {"link": f'<{api}>; rel="https://api.w.org/"'}
    said = str(answers.http_error(404, link, b"<html><title>Not here</title></html>", advice))
    assert said.endswith(
        f"Not here; the shop says that its API is at {api}: set WOOCOMMERCE_MCP_URL={api}wc/v3/orders"
    )


def test_a_sentence_of_the_shops_ends_where_the_advice_begins() -> None:
    said = str(answers.rest_error({"code": "no", "message": "Not you."}, 401, {}, rest.ADVICE))
    assert said.startswith("the shop answered 401: no: Not you; check the consumer key")


def test_a_list_without_ids_comes_with_advice() -> None:
    with pytest.raises(TemporaryError, match="; look for a plugin or cache that changes the answers"):
        read_items([{"a": 1}], Query(per_page=10))


BROKEN = {
    "hung up": (
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        "it was closed before a response arrived",
    ),
    "cut": (
        httpx.RemoteProtocolError(
            "peer closed connection without sending complete message body (received 2 bytes, expected 9)"
        ),
        "the response was cut off",
    ),
    "cut in a chunk": (
        httpx.RemoteProtocolError(
            "peer closed connection without sending complete message body (incomplete chunked read)"
        ),
        "the response was cut off",
    ),
    "no HTTP": (httpx.RemoteProtocolError("illegal request line"), "the response is not HTTP"),
    "reset": (
        httpx.ReadError("[Errno 104] Connection reset by peer"),
        "[Errno 104] Connection reset by peer",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_connection_that_breaks_off_is_not_called_none(case: str) -> None:
    error, said = BROKEN[case]
    with pytest.raises(TemporaryError) as caught, transport_errors("the shop"):
        raise error
    assert caught.value.kind is ErrorKind.CONNECTION
    assert str(caught.value).startswith(f"the connection to the shop failed: {said}; if it persists, ")


def test_check_adds_no_advice_to_an_error_that_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1")
    with pytest.raises(TemporaryError) as proxy:
        http_transport("https://shop.example")
    with pytest.raises(TemporaryError) as head, transport_errors("the shop"):
        raise httpx.RemoteProtocolError("x") from ForbiddenHeadError("sent a header line; look for a plugin")
    with pytest.raises(TemporaryError) as nobody, transport_errors("the shop"):
        raise httpx.ConnectError("refused")
    assert advised(proxy.value, SHOP_ADVICE) == str(proxy.value)
    assert advised(head.value, SHOP_ADVICE) == "the shop sent a header line; look for a plugin"
    assert "check WOOCOMMERCE_MCP_URL" in advised(nobody.value, SHOP_ADVICE)
