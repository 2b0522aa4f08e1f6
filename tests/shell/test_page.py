"""The status page: what it says, to whom, in which language; and that what is not ours stays text."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta, timezone
from html.parser import HTMLParser
from typing import get_args

import anyio
import httpx
import pytest

from shop_poller.core.attempts import Attempt, AttemptLog
from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind
from shop_poller.core.messages import Locale
from shop_poller.core.model import EventType
from shop_poller.core.translatable import Text
from shop_poller.locales import page_texts
from shop_poller.ports import STORE, Alert, PollFailure, SinkStats
from shop_poller.web.page import status_page
from shop_poller.web.routes import make_app
from shop_poller.web.snapshot import RecentEvent, SinkSnapshot, StatusSnapshot
from shop_poller.web.troubles import troubles
from shop_poller.web.view_context import ViewContext
from shop_poller.web.words import event_name
from support.scene import HOSTS, NO_HEALTH, NOW, SHOP, TROUBLED, WELL, Stage, ago, finished, status_page_of

pytestmark = pytest.mark.anyio
LOCALES = pytest.mark.parametrize("locale", ["ru", "en"])
FAILURE = PollFailure(ErrorKind.TIMEOUT, "no answer within 30 s", ago(minutes=3))
FULL = PollFailure(ErrorKind.STORE, "state file /x: database or disk is full", ago(minutes=3))
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{0}{name}\u202e\x00"


@asynccontextmanager
async def visiting(stage: Stage, *, locale: Locale = "ru") -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(NO_HEALTH, None, lambda: status_page_of(stage, token=None, locale=locale), hosts=HOSTS)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9108") as client:
        yield client


class Tags(HTMLParser):
    """What tags and texts there are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.open_tags: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in {"meta", "link", "br", "input"}:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open_tags or self.open_tags[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def shown(snapshot: StatusSnapshot, locale: Locale = "en") -> str:
    return Tags(status_page(snapshot, ViewContext(locale))).text


# --- What it says ---


@LOCALES
def test_when_all_is_well_it_says_so_and_nothing_else(locale: Locale) -> None:
    text = shown(WELL, locale)
    assert page_texts(locale)["well"] in text
    assert "docs/" not in text
    for name in ("attention", "unwell", "starting"):
        assert page_texts(locale)[name] not in text


def test_it_says_when_what_was_and_what_waits() -> None:
    text = shown(TROUBLED)
    for part in (
        "Last poll 18 s ago", "Next poll in 42 s", "Oldest undelivered 25 min", "Outbox 14", "Queue 1",
        "Dead letters 2", "Known orders 12,480", "Leads this process", "Delivered: 265, failed: 2",
        "telegram paused 14", "crm OK 0", "order 1042", "422: unknown brand", "order 1038",
        "Something does not work", "telegram : no connection, since 25 min ago",
    ):  # fmt: skip
        assert part in text, part


def test_before_the_first_poll_it_is_neither_well_nor_ill() -> None:
    assert WELL.state is not None
    text = shown(replace(WELL, state=replace(WELL.state, last_poll_at=None)))
    assert "Starting: the shop has not answered yet" in text
    assert "All is well" not in text
    assert page_texts("en")["well since"] not in text


def test_polling_that_is_off_is_no_trouble() -> None:
    text = shown(replace(WELL, polling=False, next_in_s=None))
    assert "All is well" in text
    assert "Next poll off" in text


def test_a_follower_says_who_leads_and_what_the_store_knows() -> None:
    sinks = [SinkSnapshot("crm", SinkStats(waiting=3, oldest_at=ago(seconds=5)))]
    text = shown(replace(WELL, leads=False, leader="host-b/17", next_in_s=None, sinks=sinks))
    assert "Leads host-b/17" in text
    assert "Last poll 18 s ago" in text
    assert "crm known to the leader 3" in text
    assert "All is well" in text


def test_a_store_that_cannot_be_read_is_said_and_nothing_is_made_up() -> None:
    text = shown(
        StatusSnapshot(SHOP, "1", NOW, polling=True, leads=True, trouble="state in /x: disk I/O error")
    )
    assert "The state cannot be read: state in /x: disk I/O error" in text
    for name in ("Last poll", "Known orders", "Outbox", "Dead letters"):
        assert f"{name} not known" in text


def test_an_error_is_shown_in_the_readers_language() -> None:
    problem = Text("the shop answered {status}: {said}", status=503, said="<Error>")
    failing = replace(WELL, failure=PollFailure(ErrorKind.UNAVAILABLE, problem, ago(minutes=5)))
    assert "the shop answered 503: <Error>" in shown(failing)
    assert "магазин ответил 503: <Error>" in shown(failing, "ru")
    trouble = Text("state file {path}: {problem}; {advice}", path="/x", problem="?", advice=Text("nothing"))
    assert "файл состояния /x: ?; ничего" in shown(replace(WELL, trouble=trouble), "ru")


def test_who_cannot_ask_the_store_makes_up_no_other_replica() -> None:
    lost = StatusSnapshot(SHOP, "1", NOW, polling=True, leads=False, trouble="x", sinks=[SinkSnapshot("crm")])
    text = shown(lost)
    for part in ("Next poll not known", "Queue not known", "Leads not known", "crm not known not known"):
        assert part in text, part
    assert "replica" not in text
    assert "Next poll off" in shown(replace(lost, polling=False))


@pytest.mark.parametrize("breaker", [BreakerState.CLOSED, None])
def test_a_sink_with_quiet_hours_shows_their_end(breaker: BreakerState | None) -> None:
    until = (NOW + timedelta(hours=8)).astimezone(timezone(timedelta(hours=3)))
    sink = SinkSnapshot("boss", SinkStats(4, ago(hours=1)), breaker=breaker, quiet_until=until)
    assert f"boss quiet until {until:%H:%M} 4" in shown(replace(WELL, sinks=[sink]))
    assert f"boss тихие часы до {until:%H:%M} 4" in shown(replace(WELL, sinks=[sink]), "ru")
    far = until + timedelta(days=2)
    assert f"boss quiet until {far:%d.%m. %H:%M} 4" in shown(
        replace(WELL, sinks=[replace(sink, quiet_until=far)])
    )
    paused = replace(sink, breaker=BreakerState.OPEN)
    assert "boss paused 4" in shown(replace(WELL, sinks=[paused]))


@pytest.mark.parametrize(
    ("snapshot", "kinds"),
    [
        (WELL, []),
        (replace(WELL, unhealthy_reason="Polling not running"), ["polling"]),
        (replace(WELL, unhealthy_reason="No active workers"), ["workers"]),
        (replace(WELL, failure=FAILURE), ["poll failing"]),
        (replace(WELL, failure=FAILURE, unhealthy_reason="Polling not running"), ["poll failing"]),
        (replace(WELL, failure=FAILURE, unhealthy_reason="No active workers"), ["workers", "poll failing"]),
        (replace(WELL, failure=FAILURE, alerts=[Alert(SHOP, ErrorKind.TIMEOUT, NOW)]), ["poll failing"]),
        (replace(WELL, failure=FAILURE, trouble="x"), ["store", "poll failing"]),
        (replace(WELL, failure=FULL, trouble="x"), ["store"]),
        (replace(WELL, leads=False), ["leader"]),
        (replace(WELL, trouble="x", leads=False), ["store"]),
        (replace(WELL, alerts=[Alert(SHOP, ErrorKind.AUTHENTICATION, NOW)]), ["alert"]),
        (replace(WELL, set_aside=2), ["aside"]),
        (replace(WELL, rows_set_aside=2), ["damaged"]),
        (replace(WELL, sinks=[SinkSnapshot("a", breaker=BreakerState.OPEN)]), ["open"]),
        (replace(WELL, sinks=[SinkSnapshot("a", breaker=BreakerState.CLOSED, gone=True)]), ["gone"]),
        (replace(WELL, sinks=[SinkSnapshot("a", SinkStats(waiting=1), named=False)]), ["orphan"]),
        (replace(WELL, sinks=[SinkSnapshot("a", named=False)]), []),
        (replace(WELL, sinks=[SinkSnapshot("a", SinkStats(dead=2))]), ["dead"]),
        (replace(WELL, sinks=[SinkSnapshot("a", SinkStats(1, ago(minutes=10)))]), ["late"]),
        (replace(WELL, sinks=[SinkSnapshot("a", SinkStats(1, ago(minutes=9)))]), []),
        (
            replace(
                WELL, sinks=[SinkSnapshot("a", SinkStats(1, ago(hours=9)), quiet_time=timedelta(hours=9))]
            ),
            [],
        ),
        (
            replace(
                WELL, sinks=[SinkSnapshot("a", SinkStats(1, ago(hours=9)), quiet_time=timedelta(hours=8))]
            ),
            ["late"],
        ),
        (TROUBLED, ["alert", "dead", "aside"]),
    ],
)
def test_troubles_are_found(snapshot: StatusSnapshot, kinds: list[str]) -> None:
    assert [one.kind for one in troubles(snapshot)] == kinds


@pytest.mark.parametrize(
    ("service", "cause", "section"),
    [
        (SHOP, ErrorKind.AUTHENTICATION, "wrong-key"),
        (SHOP, ErrorKind.TIMEOUT, "shop-down"),
        ("crm", ErrorKind.AUTHENTICATION, "receiver-down"),
        (STORE, ErrorKind.STORE, "shoppollerstoretrouble"),
    ],
)
def test_of_an_alert_it_says_where_to_read_on(service: str, cause: ErrorKind, section: str) -> None:
    (trouble,) = troubles(replace(WELL, alerts=[Alert(service, cause, NOW)]))
    assert trouble.section == f"docs/runbook.md#{section}"


@LOCALES
def test_a_poll_that_failed_is_no_all_is_well_and_its_error_is_shown(locale: Locale) -> None:
    text = shown(replace(WELL, failure=FULL), locale)
    assert page_texts(locale)["attention"] in text
    assert page_texts(locale)["well"] not in text
    assert FULL.text in text


@pytest.mark.parametrize(
    "worse",
    [
        replace(WELL, unhealthy_reason="Polling not running"),
        replace(WELL, alerts=[Alert(SHOP, ErrorKind.AUTHENTICATION, NOW)]),
    ],
)
def test_polls_that_fail_are_grave_once_polling_counts_as_stopped_or_somebody_was_told(
    worse: StatusSnapshot,
) -> None:
    assert [one.grave for one in troubles(replace(WELL, failure=FAILURE))] == [False]
    assert [one.grave for one in troubles(replace(worse, failure=FAILURE))] == [True]


@pytest.mark.parametrize(
    ("kind", "in_redis", "section"),
    [
        (ErrorKind.STORE, False, "disk-full"),
        (ErrorKind.STORE, True, "redis-gone"),
        (ErrorKind.AUTHENTICATION, False, "wrong-key"),
        (ErrorKind.UNAVAILABLE, True, "shop-down"),
        (ErrorKind.INTERNAL, False, "shoppollerbug"),
    ],
)
def test_of_a_poll_that_failed_it_says_where_to_read_on(
    kind: ErrorKind, section: str, *, in_redis: bool
) -> None:
    failure = PollFailure(kind, "x", NOW)
    (trouble,) = troubles(replace(WELL, in_redis=in_redis, failure=failure))
    assert trouble.section == f"docs/runbook.md#{section}"


def test_both_languages_say_the_same_things() -> None:
    assert page_texts("ru").keys() == page_texts("en").keys()
    for name, text in page_texts("en").items():
        fields = set(re.findall(r"{\w+}", text))
        assert set(re.findall(r"{\w+}", page_texts("ru")[name])) == fields, name


@LOCALES
@pytest.mark.parametrize("event", [event for event in EventType if event is not EventType.TEST])
def test_every_event_has_a_name(event: EventType, locale: Locale) -> None:
    assert event_name(event, locale)


def test_an_event_of_the_owners_has_the_title_that_the_owner_gave() -> None:
    over = finished(1, "crm", "7", "shop.packing", at=NOW)
    happened = [RecentEvent("shop.packing", "7", [over])]
    told = replace(WELL, recent_events=happened, titles={"shop.packing": "Packing"})
    assert "Packing order 7 crm : delivered" in shown(told)


# --- What it may not say, and what it is made of ---


def test_what_is_not_ours_stays_text() -> None:
    over = finished(1, EVIL, EVIL, EVIL, at=NOW, reason=EVIL)
    evil = replace(
        TROUBLED,
        shop="<b>&\"'",
        leads=False,
        leader=EVIL,
        alerts=[Alert(EVIL, ErrorKind.SERVER, NOW)],
        sinks=[SinkSnapshot(EVIL, SinkStats(1, NOW, 1), named=False)],
        recent_events=[RecentEvent(EVIL, EVIL, [over])],
        dead=[over],
        trouble=EVIL,
        titles={EVIL: EVIL},
    )
    for locale in get_args(Locale):
        page = status_page(evil, ViewContext(locale, actions_enabled=True, signed_in=True, notice="<b>"))
        tags = Tags(page)
        assert not {"script", "img"} & set(tags.tags)
        assert not any(name.startswith("on") for name in tags.attributes)
        assert tags.open_tags == []
        assert page.count("<script") == 0
        assert not {"\x00", "\u202e"} & set(page)
        assert tags.texts.count("<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{0}{name}  ") >= 6


def test_a_text_of_others_is_clipped() -> None:
    over = finished(1, "crm", "7", "shop.order.new", at=NOW, reason="x" * 5000)
    assert len(status_page(replace(WELL, dead=[over]), ViewContext("en"))) < 20_000


@pytest.mark.parametrize("snapshot", [WELL, TROUBLED])
def test_it_is_well_made(snapshot: StatusSnapshot) -> None:
    tags = Tags(status_page(snapshot, ViewContext("en", actions_enabled=True, signed_in=True)))
    assert tags.open_tags == []
    assert tags.tags.count("h1") == tags.tags.count("main") == tags.tags.count("header") == 1
    assert not {"script", "iframe"} & set(tags.tags)
    assert "style" not in tags.attributes  # the policy would forbid it


# --- Over HTTP ---


async def test_it_is_html_that_nobody_keeps_frames_or_extends() -> None:
    async with visiting(Stage()) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy.pop("style-src").startswith("'sha256-")
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "src=" not in answer.text
    assert "http:" not in answer.text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    ("query", "accepted", "default", "lang"),
    [
        ("", "", "ru", "ru"),
        ("", "", "en", "en"),
        ("", "en-GB,en;q=0.9,ru;q=0.5", "ru", "en"),
        ("", "en;q=0.5, ru-RU", "en", "ru"),
        ("", "de, en;q=0.1, ru;q=0", "ru", "en"),
        ("", "ru;q=nonsense,*", "en", "en"),
        ("?lang=en", "ru", "ru", "en"),
        ("?lang=ru", "en", "en", "ru"),
        ("?lang=xx", "en", "ru", "en"),
    ],
)
async def test_the_language_is_the_one_that_is_wanted(
    query: str, accepted: str, default: Locale, lang: str
) -> None:
    async with visiting(Stage(), locale=default) as client:
        answer = await client.get(f"/{query}", headers={"accept-language": accepted})
    assert f'<html lang="{lang}">' in answer.text


async def test_it_looks_again_by_itself_in_the_same_language_unless_it_is_to_stand_still() -> None:
    async with visiting(Stage()) as client:
        moving, still = await client.get("/?lang=en"), await client.get("/?lang=en&still=1")
    assert '<meta http-equiv="refresh" content="10;url=./?lang=en">' in moving.text
    assert "refresh" not in still.text.split("<body>")[0].replace("<style>", "")
    assert 'href="./?lang=en"' in still.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9108", 200),
        ("[::1]:9108", 200),
        ("192.168.1.7", 200),
        ("localhost:9108", 200),
        ("poller.example", 200),
        ("POLLER.example.:9108", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:9108", 421),
        ("evil.example:9108", 421),
        ("", 421),
    ],
)
async def test_it_answers_to_names_of_its_own_only(host: str, status: int) -> None:
    async with visiting(Stage()) as client:
        answer = await client.get("/", headers={"host": host})
    assert answer.status_code == status
    assert ("SHOP_HTTP_HOSTS" in answer.text) == (status == 421)


async def test_however_many_clients_come_at_once_the_store_is_read_once() -> None:

    stage = Stage()
    async with visiting(stage) as client, anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(client.get, "/")
    assert stage.looks == 1


ATTEMPTS = AttemptLog(
    12,
    (
        Attempt(ago(minutes=50), 48, ErrorKind.SERVER, 500, "database is locked"),
        Attempt(ago(minutes=44), 10_000, ErrorKind.TIMEOUT, None, "no answer within 10 s"),
        Attempt(ago(minutes=42), 35, ErrorKind.REJECTED, 422, EVIL),
    ),
)


@LOCALES
def test_a_dead_letter_has_its_attempts_folded(locale: Locale) -> None:
    letter = replace(TROUBLED.dead[0], attempt_log=ATTEMPTS)
    page = status_page(replace(TROUBLED, dead=[letter]), ViewContext(locale))
    tags = Tags(page)
    (folded,) = re.findall(r'<details class="log">.*?</details>', page)
    assert folded.count("<li>") == 4
    said = re.sub(r"<[^>]*>", "", folded)
    assert said.startswith(page_texts(locale)["attempts made"].format(count=12))
    assert "ServerError 500" in said
    assert "database is locked" in said
    assert page_texts(locale)["not kept"].format(count=9) in said
    assert "no answer within 10 s" in said
    assert "script" not in tags.tags
    assert "<script>" not in page
    assert not tags.open_tags


@LOCALES
def test_a_letter_without_attempts_has_none_to_show(locale: Locale) -> None:
    assert "<details class" not in status_page(TROUBLED, ViewContext(locale))


@LOCALES
def test_a_delivery_that_took_several_attempts_says_so(locale: Locale) -> None:
    over = finished(1, "crm", "1042", EventType.NEW, at=ago(seconds=40))
    several = replace(over, attempt_log=ATTEMPTS)
    once = replace(over, attempt_log=AttemptLog(1, ATTEMPTS.kept[:1]))
    for one, count in ((several, 1), (once, 0), (over, 0)):
        snapshot = replace(WELL, recent_events=[RecentEvent(EventType.NEW, "1042", [one])])
        page = status_page(snapshot, ViewContext(locale))
        assert page.count(page_texts(locale)["attempts made"].format(count=12)) == count
