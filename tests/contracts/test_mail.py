"""Mail, by Apprise, to a server on loopback: what arrives, and what becomes of a mail that is refused."""

from pathlib import Path
from smtplib import SMTPDataError, SMTPException, SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any

import anyio
import pytest

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.sinks.apprise.mail_answers import answer_in_words, mail_refusal
from shop_poller.sinks.registry import parse_sink
from support.apprise_services import load_services
from support.channels import deliveries, new_order, only_title
from support.shop_harness import SHOP, put, shop_harness
from support.smtp_server import SmtpServer, smtp_server

load_services()

PASSWORD = "sesame-key"
IN_TIME_S = 20.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apprise waits between two mails, and a mail client may wait for this machine's name."""
    monkeypatch.setattr("apprise.url.URLBase.throttle", lambda *_, **__: None)
    monkeypatch.setattr("socket.getfqdn", lambda *_: "client.example")


def mail_sink(server: SmtpServer) -> Any:
    address = f"mailto://shop:{PASSWORD}@127.0.0.1:{server.port}?from=shop@shop.example&to=boss@shop.example"
    return parse_sink(f"apprise+{address}#sink").open(signing_keys=(), connections=1)


async def failure(sink: Any) -> ShopPollerError:
    with anyio.fail_after(IN_TIME_S), pytest.raises(ShopPollerError) as caught:
        await sink.send(new_order("ru"))
    return caught.value


@pytest.mark.anyio
async def test_a_mail_has_a_subject_both_parts_and_the_link_in_both() -> None:
    async with smtp_server() as server:
        with anyio.fail_after(IN_TIME_S):
            await mail_sink(server).send(dict(deliveries("ru"))["new"])
    (mail,) = server.mails
    message = mail.message
    assert (mail.sender, mail.recipients) == ("shop@shop.example", ["boss@shop.example"])
    assert message["Subject"].replace("\u00a0", " ") == "Новый заказ №1002 · 5 990 ₽ · Анна"
    assert "shop@shop.example" in message["From"]
    assert "boss@shop.example" in message["To"]
    assert message.get_content_type() == "multipart/alternative"
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        assert part is not None
        text = part.get_content().replace("&amp;", "&")
        assert "Мёд липовый ×2, Прополис ×1" in text
        assert "https://shop.example/wp-admin/post.php?post=1002&action=edit" in text
    assert mail.raw.isascii(), "no server has to know SMTPUTF8"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["Anna\r\nBcc: all@evil.example", "Анна\nX-Evil: 1", "a\r\n\r\n<b>body</b>", "a\0b"]
)
async def test_no_name_adds_a_header(name: str) -> None:
    async with smtp_server() as server:
        for delivery in (new_order("ru", customer=name), only_title(name)):
            with anyio.fail_after(IN_TIME_S):
                await mail_sink(server).send(delivery)
    for mail in server.mails:
        assert mail.recipients == ["boss@shop.example"]
        assert not {"bcc", "x-evil"} & {header.lower() for header in mail.message}
        assert mail.message.get_body(("html",)) is not None


@pytest.mark.anyio
async def test_a_mail_that_is_refused_is_a_dead_letter_with_the_words_of_the_server(tmp_path: Path) -> None:
    async with smtp_server() as server:
        server.refusals = [f"550 no such user; you said {PASSWORD}"]
        async with shop_harness(tmp_path / "state.db", sinks=[mail_sink(server)]) as it:
            await put(it, "316")
            with anyio.fail_after(IN_TIME_S):
                await it.deliver()
            assert (await it.store.stats(SHOP)).sinks["sink"].dead == 1
            (seq,) = await it.store.dead_ids(SHOP)
            letter = await it.store.dead_letter(SHOP, seq)
    assert letter is not None
    assert "the mail server answered 550: no such user; you said ***" in letter.over.reason
    assert [mail.message["Subject"] for mail in server.mails] == ["Не доставлено"], "only the alert"


@pytest.mark.anyio
async def test_a_mail_that_is_refused_for_now_is_sent_by_the_next_attempt() -> None:
    async with smtp_server() as server:
        server.refusals = ["451 try again later"]
        sink = mail_sink(server)
        assert isinstance(await failure(sink), TemporaryError)
        with anyio.fail_after(IN_TIME_S):
            await sink.send(new_order("ru"))
    assert len(server.mails) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "kind", "error_type"),
    [
        ("550 5.1.1 no such user", ErrorKind.REJECTED, PermanentError),
        ("421 shutting down", ErrorKind.UNAVAILABLE, TemporaryError),
        ("450 greylisted", ErrorKind.SERVER, TemporaryError),
    ],
)
async def test_each_answer_is_the_error_that_it_is(
    answer: str, kind: ErrorKind, error_type: type[ShopPollerError]
) -> None:
    async with smtp_server() as server:
        server.refusals = [answer]
        error = await failure(mail_sink(server))
    assert (error.kind, type(error)) == (kind, error_type)
    assert f"the mail server answered {answer[:3]}: {answer[4:]}" in str(error)
    assert PASSWORD not in str(error)


@pytest.mark.anyio
async def test_a_server_that_is_not_there_is_temporary() -> None:
    async with smtp_server() as server:
        sink = mail_sink(server)
    error = await failure(sink)
    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            SMTPRecipientsRefused({"a@b.example": (550, b"no \xff")}),
            "the mail server answered 550: no \ufffd",
        ),
        (
            SMTPRecipientsRefused({"a@b.example": (550, b"no"), "c@d.example": (451, b"later")}),
            "the mail server answered 451: later",
        ),
        (
            SMTPRecipientsRefused({"a@b.example": (550, b"no"), "c@d.example": (550, "nor")}),  # type: ignore[dict-item] # a library may
            "the mail server answered 550: no",
        ),
        (SMTPDataError(554, "spam"), "the mail server answered 554: spam"),
        (SMTPServerDisconnected("gone"), None),
    ],
)
def test_an_answer_is_found_in_an_exception(error: SMTPException, expected: str | None) -> None:
    assert answer_in_words(error) == expected


def test_a_refusal_of_one_of_several_recipients_is_final() -> None:
    error = mail_refusal("SMTP recipient a@b.example was refused: 550 b'no'", "no")
    assert isinstance(error, PermanentError)
    later = "SMTP recipient c@d.example was refused: 451 b'greylisted'"
    for said in (f"{error} was refused: 550 b'no' {later}", f"{later} x was refused: 550 b'no'"):
        assert isinstance(mail_refusal(said, "later"), TemporaryError), "the one that may be accepted counts"
    assert mail_refusal("A Connection error occurred", "no") is None
