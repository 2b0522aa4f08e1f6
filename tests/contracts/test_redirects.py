"""What a sink over HTTP makes of an answer 3xx: it ends, says what to set, and shows no secret."""

import httpx
import pytest
import respx

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.sinks.http.config import HttpConfig
from support.sink_peers import inbox
from support.sinks import DELIVERY, failure, http_sink

pytestmark = pytest.mark.anyio

PLAIN = "http://h.example/hook"
HIDDEN = "https://h.example/hooks/sesame/key-1#crm"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def refusal(url: str, status: int, location: str | None, mock: respx.MockRouter) -> PermanentError:
    headers = {} if location is None else {"Location": location}
    mock.post(url.partition("#")[0]).respond(status, headers=headers)
    async with http_sink(url) as sink:
        error = await failure(sink)
    assert isinstance(error, PermanentError)
    assert error.may_pass, "one that worked before may be under maintenance"
    assert "\n" not in str(error)
    return error


@pytest.mark.parametrize("status", [302, 303])
async def test_a_receiver_that_is_done_and_leads_elsewhere_probably_got_it(
    respx_mock: respx.MockRouter, status: int
) -> None:
    error = await refusal(PLAIN, status, "https://script.example/macros/echo?x=1", respx_mock)
    assert error.may_be_done
    assert error.kind is ErrorKind.PROTOCOL
    assert "https://script.example/macros/echo:" in str(error)
    assert "probably processed the notification" in str(error)
    assert "redirects=delivered" in str(error)


@pytest.mark.parametrize(
    ("status", "location", "named"),
    [
        (301, "https://h.example/hook", "https://h.example/hook"),
        (302, "https://h.example/hook", "https://h.example/hook"),
        (308, "https://www.h.example/hook", "https://www.h.example/hook"),
        (301, "/hook/", "http://h.example/hook/"),
        (307, "//h.example:8443/hook", "http://h.example:8443/hook"),
        (307, "https://other.example/api/v2/hook", "https://other.example/api/v2/hook"),
    ],
)
async def test_one_that_moved_has_its_new_address_named(
    respx_mock: respx.MockRouter, status: int, location: str, named: str
) -> None:
    error = await refusal(PLAIN, status, location, respx_mock)
    assert not error.may_be_done
    assert f"a redirect to {named}: set " in str(error)
    assert "SHOP_NOTIFY_URLS" in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_one_that_leads_to_itself_says_so(respx_mock: respx.MockRouter, status: int) -> None:
    error = await refusal(PLAIN, status, "/hook", respx_mock)
    assert "a redirect to itself" in str(error)


@pytest.mark.parametrize(("status", "location"), [(303, "/hook?done=1"), (302, "/thanks")])
async def test_a_form_that_shows_its_thanks_is_done(
    respx_mock: respx.MockRouter, status: int, location: str
) -> None:
    assert (await refusal(PLAIN, status, location, respx_mock)).may_be_done


@pytest.mark.parametrize("status", [300, 302, 304, 305, 306, 399])
@pytest.mark.parametrize("location", [None, "", "mailto:x@y.example", "http://[", "https://h.example:99999/"])
async def test_one_that_leads_nowhere_ends_too(
    respx_mock: respx.MockRouter, status: int, location: str | None
) -> None:
    error = await refusal(PLAIN, status, location, respx_mock)
    assert error.kind is ErrorKind.PROTOCOL
    assert "a redirect without a usable address" in str(error)


@pytest.mark.parametrize(
    "location",
    [
        "https://h.example/hooks/sesame/key-1/",
        "http://h.example/hooks/sesame/key-1",
        "https://user:sesame@other.example/login?token=sesame#sesame",
        "https://other.example/sesame/x",
        "https://other.example/s3sameS3sameS3sameS3same",
        "https://other.example/macros/\x1b[31m/AKfycbx0Sesame",
    ],
)
async def test_no_secret_is_shown(respx_mock: respx.MockRouter, location: str) -> None:
    for status in (301, 302, 307):
        text = str(await refusal(HIDDEN, status, location, respx_mock)).lower()
        assert "sesame" not in text.replace("s3same", "sesame")
        assert "key-1" not in text
        assert "\x1b" not in text


async def test_a_redirect_is_a_yes_where_the_owner_says_so() -> None:
    async with inbox() as elsewhere, inbox() as receiver:
        address = f"{receiver.url}?a=1&redirects=delivered&b=2"
        async with http_sink(address) as sink:
            for status in (302, 303):
                receiver.answers.append((status, {"Location": elsewhere.url}))
                await sink.send(DELIVERY)
            receiver.answers.append((307, {"Location": elsewhere.url}))
            assert isinstance(await failure(sink), PermanentError), "307 says that nothing was done"
    assert [post.target.partition("?")[2] for post in receiver.posts] == ["a=1&b=2"] * 3
    assert elsewhere.posts == []


def test_the_option_is_ours_only_as_it_is_documented() -> None:
    assert HttpConfig.parse("https://h.example/x?redirects=5").url == "https://h.example/x?redirects=5"
    assert HttpConfig.parse("https://h.example/x?redirects=delivered").url == "https://h.example/x"
    assert not HttpConfig.parse("https://h.example/x").takes_redirects


async def test_check_says_where_a_redirect_leads(respx_mock: respx.MockRouter) -> None:
    respx_mock.options(PLAIN).mock(httpx.Response(301, headers={"Location": "https://h.example/hook"}))
    async with http_sink(PLAIN) as sink:
        assert "a redirect to https://h.example/hook: set " in await sink.check()


@pytest.mark.parametrize("location", ["https://script.example/macros/echo", ""])
async def test_check_says_nothing_of_a_notification_that_was_not_sent(
    respx_mock: respx.MockRouter, location: str
) -> None:
    respx_mock.options(PLAIN).mock(httpx.Response(302, headers={"Location": location}))
    async with http_sink(PLAIN) as sink:
        said = await sink.check()
    assert "got the notification" not in said
    assert said.endswith("; notify-test shows what it answers to a notification")


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_page_to_sign_in_is_no_address_to_set(respx_mock: respx.MockRouter, status: int) -> None:
    error = await refusal(PLAIN, status, "https://h.example/login?next=/hook", respx_mock)
    assert "a redirect to https://h.example/login, a page to sign in: check its address" in str(error)
    assert "final address" not in str(error)


@pytest.mark.parametrize(
    ("url", "location", "slash"),
    [
        ("https://h.example/sesame#crm", "/sesame/", "with a slash at its end"),
        ("https://h.example/sesame/#crm", "/sesame", "without the slash at its end"),
    ],
)
async def test_a_slash_that_is_not_shown_is_named(
    respx_mock: respx.MockRouter, url: str, location: str, slash: str
) -> None:
    said = str(await refusal(url, 301, location, respx_mock))
    assert f"a redirect to https://h.example/…, {slash}: set that address" in said
