"""What the status page can do, and for whom: the token, sessions, forms of other sites, wrong tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.ports import SinkStats
from shop_poller.web.admin_auth import MOST_SESSIONS, SESSION_S, WRONG_AT_ONCE, WRONG_EVERY_S
from shop_poller.web.routes import make_app
from shop_poller.web.snapshot import ActionResult, SinkSnapshot, StatusSnapshot
from shop_poller.web.troubles import troubles
from support.scene import HOSTS, NO_HEALTH, TOKEN, TROUBLED, WELL, Stage, ago, status_page_of

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9108"
OURS = {"sec-fetch-site": "same-origin", "origin": URL}
BEARER = {"authorization": f"Bearer {TOKEN}"}
ACTIONS = [("poll", "", "poll"), ("replay", "57", "replay 57"), ("drop", "41", "drop 41")]


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A page that may act, and somebody with a browser.

    Attributes:
        stage: the daemon.
        clock: of sessions and of wrong tokens.
    """

    stage: Stage = field(default_factory=lambda: Stage(TROUBLED))
    clock: Clock = field(default_factory=Clock)
    client: httpx.AsyncClient = field(init=False)

    async def sign_in(self, token: str = TOKEN, **headers: str) -> httpx.Response:
        return await self.client.post("/sign-in?lang=en", data={"token": token}, headers={**OURS, **headers})

    async def act(self, action: str, seq: str = "", headers: dict[str, str] = OURS) -> httpx.Response:
        return await self.client.post(f"/actions/{action}?lang=en", data={"seq": seq}, headers=headers)


@asynccontextmanager
async def visiting(*, token: str | None = TOKEN) -> AsyncIterator[Desk]:
    desk = Desk()
    app = make_app(
        NO_HEALTH,
        None,
        lambda: status_page_of(desk.stage, token=token, clock=desk.clock),
        actions_enabled=token is not None,
        hosts=HOSTS,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as desk.client:
        yield desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with visiting() as desk:
        yield desk


# --- Without a token ---


@pytest.mark.parametrize(
    "path",
    ["/actions/poll", "/actions/mute", "/actions/replay", "/actions/drop", "/sign-in", "/sign-out"],
)
async def test_without_a_token_there_is_nothing_to_ask(path: str) -> None:
    async with visiting(token=None) as desk:
        answer = await desk.client.post(path, headers={**OURS, **BEARER})
        page = await desk.client.get("/?lang=en")
    assert answer.status_code == 404
    assert desk.stage.done == []
    assert "<form" not in page.text
    assert "Sign in" not in page.text


# --- A browser ---


async def test_the_session_cannot_be_read_by_scripts_or_sent_by_other_sites_and_is_not_the_token(
    desk: Desk,
) -> None:
    answer = await desk.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "./?lang=en")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    assert cookie != (await desk.sign_in()).headers["set-cookie"]


async def test_over_https_the_session_stays_there(desk: Desk) -> None:
    answer = await desk.sign_in(origin="https://127.0.0.1:9108")
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(("action", "seq", "done"), ACTIONS)
async def test_who_is_signed_in_can_do_it(desk: Desk, action: str, seq: str, done: str) -> None:
    await desk.sign_in()
    answer = await desk.act(action, seq)
    assert answer.status_code == 303
    assert desk.stage.done == [done]
    page = await desk.client.get(f"/actions/{answer.headers['location']}".replace("/actions/../", "/"))
    assert 'role="status"' in page.text


@pytest.mark.parametrize(("action", "seq", "_"), ACTIONS)
async def test_who_is_not_signed_in_cannot(desk: Desk, action: str, seq: str, _: str) -> None:
    answer = await desk.act(action, seq)
    assert (answer.status_code, "You are not signed in" in answer.text) == (401, True)
    desk.client.cookies.set("shop_poller_00000000", "made-up")
    assert (await desk.act(action, seq)).status_code == 401
    assert desk.stage.done == []


async def test_buttons_are_shown_to_who_is_signed_in_only(desk: Desk) -> None:
    before = await desk.client.get("/?lang=en")
    await desk.sign_in()
    after = await desk.client.get("/?lang=en")
    assert ("actions/" in before.text, "actions/" in after.text) == (False, True)


async def test_who_signs_out_is_out_even_with_the_old_cookie(desk: Desk) -> None:
    await desk.sign_in()
    await desk.client.post("/sign-out", headers=OURS)
    assert (await desk.act("poll")).status_code == 401


async def test_another_site_cannot_sign_anybody_out(desk: Desk) -> None:
    await desk.sign_in()
    await desk.client.post("/sign-out", headers={"origin": "https://evil.example"})
    assert (await desk.act("poll")).status_code == 303


async def test_a_session_ends(desk: Desk) -> None:
    await desk.sign_in()
    desk.clock.now += SESSION_S - 1
    assert (await desk.act("poll")).status_code == 303
    desk.clock.now += 1
    assert (await desk.act("poll")).status_code == 401


async def test_of_too_many_sessions_the_oldest_goes(desk: Desk) -> None:
    cookies = []
    for _ in range(MOST_SESSIONS + 1):
        await desk.sign_in()
        cookies.append(dict(desk.client.cookies))
    statuses = []
    for one in (cookies[0], cookies[1], cookies[-1]):
        desk.client.cookies = httpx.Cookies(one)
        statuses.append((await desk.act("poll")).status_code)
    assert statuses == [401, 303, 303]


# --- Forms of other sites ---


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"origin": URL}, 303),
        ({"sec-fetch-site": "cross-site", "origin": URL}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8000"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
    ],
)
async def test_only_forms_of_our_own_page_are_accepted(
    desk: Desk, headers: dict[str, str], status: int
) -> None:
    await desk.sign_in()
    assert (await desk.act("poll", headers=headers)).status_code == status
    assert desk.stage.done == (["poll"] if status == 303 else [])


async def test_another_site_cannot_use_up_the_tries(desk: Desk) -> None:
    for _ in range(WRONG_AT_ONCE + 1):
        answer = await desk.client.post(
            "/sign-in", data={"token": "wrong"}, headers={"sec-fetch-site": "cross-site"}
        )
        assert answer.status_code == 403
    assert (await desk.sign_in()).status_code == 303


@pytest.mark.parametrize("path", ["/sign-in", "/actions/poll", "/sign-out"])
async def test_under_a_name_that_is_not_ours_nothing_is_done(desk: Desk, path: str) -> None:
    headers = {**OURS, **BEARER, "host": "evil.example", "origin": "http://evil.example"}
    answer = await desk.client.post(path, data={"token": TOKEN}, headers=headers)
    assert (answer.status_code, desk.stage.done) == (421, [])


# --- A program ---


@pytest.mark.parametrize(("action", "seq", "done"), ACTIONS)
async def test_a_program_shows_the_token_and_gets_a_line(
    desk: Desk, action: str, seq: str, done: str
) -> None:
    answer = await desk.act(action, seq, BEARER)
    assert (answer.status_code, answer.text.count("\n")) == (200, 1)
    assert desk.stage.done == [done]


@pytest.mark.parametrize(
    "shown", ["Bearer wrong", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "bearer \xff"]
)
async def test_a_wrong_token_does_nothing(desk: Desk, shown: str) -> None:
    answer = await desk.client.post("/actions/poll", headers={b"authorization": shown.encode("latin-1")})
    assert (answer.status_code, desk.stage.done) == (401, [])


async def test_another_kind_of_authorization_is_none(desk: Desk) -> None:
    answer = await desk.client.post("/actions/poll", headers={"authorization": f"Basic {TOKEN}"})
    assert answer.status_code == 403


# --- Guessing ---


async def test_after_too_many_wrong_tokens_none_is_looked_at_for_a_while(desk: Desk) -> None:
    with capture_logs() as log:
        statuses = [(await desk.sign_in("wrong")).status_code for _ in range(WRONG_AT_ONCE + 3)]
    assert statuses == [401] * WRONG_AT_ONCE + [429] * 3
    assert len(log) == WRONG_AT_ONCE
    assert (await desk.sign_in()).status_code == 429  # the right one neither, or guessing would go on
    desk.clock.now += WRONG_EVERY_S
    assert (await desk.sign_in()).status_code == 303


async def test_who_is_signed_in_is_not_held_up_by_who_guesses(desk: Desk) -> None:
    await desk.sign_in()
    for _ in range(WRONG_AT_ONCE + 3):
        await desk.act("poll", headers={"authorization": "Bearer wrong"})
    assert (await desk.act("poll")).status_code == 303


async def test_tokens_are_not_logged_or_shown(desk: Desk) -> None:
    with capture_logs() as log:
        answers = [await desk.sign_in("a-wrong-token"), await desk.sign_in(), await desk.act("poll")]
    said = str(log) + "".join(answer.text for answer in answers)
    assert TOKEN not in said
    assert "a-wrong-token" not in said


# --- What cannot be done ---


@pytest.mark.parametrize("seq", ["", "0", "-1", "x", "9" * 40, "٣", str(2**63)])
async def test_an_impossible_seq_is_refused_before_the_store_is_used(desk: Desk, seq: str) -> None:
    assert (await desk.act("drop", seq, BEARER)).status_code == 404
    assert desk.stage.done == []


@pytest.mark.parametrize("seconds", ["", "0", "-1", "x", "86401", "9" * 400, "٣"])
async def test_a_time_that_no_mute_may_last_is_refused(desk: Desk, seconds: str) -> None:
    answer = await desk.client.post(
        "/actions/mute", data={"sink": "crm", "seconds": seconds}, headers={**OURS, **BEARER}
    )
    assert (answer.status_code, answer.text) == (
        400,
        "The field seconds should be a number from 1 to 86400.\n",
    )
    assert desk.stage.done == []


async def test_sinks_are_muted_by_programs_and_by_buttons(desk: Desk) -> None:
    headers = {**OURS, **BEARER}
    one = await desk.client.post("/actions/mute", data={"sink": "crm", "seconds": "86400"}, headers=headers)
    two = await desk.client.post("/actions/unmute", data={"sink": "crm"}, headers=headers)
    assert [(one.status_code, one.text), (two.status_code, two.text)] == [
        (200, "Nothing is sent to this sink for now; its notifications wait.\n"),
        (200, "Notifications are sent to this sink again.\n"),
    ]
    assert desk.stage.done == ["mute crm 86400", "mute crm 0"]

    assert "actions/mute" not in (await desk.client.get("/?lang=en")).text, "nobody has signed in"
    await desk.sign_in()
    crm, telegram = desk.stage.status.sinks
    desk.stage.status = replace(desk.stage.status, sinks=[replace(crm, muted_s=7200.0), telegram])
    await desk.act("poll")
    page = (await desk.client.get("/?lang=en")).text
    assert "muted for another 2 h" in page
    assert 'aria-label="Unmute: crm"' in page
    assert 'aria-label="Mute for 1 h: telegram"' in page
    answer = await desk.client.post(
        "/actions/mute?lang=en", data={"sink": "telegram", "seconds": "3600"}, headers=OURS
    )
    assert answer.headers["location"] == "../?lang=en&done=mute&seq=0"
    assert "its notifications wait" in (await desk.client.get("/?lang=en&done=mute&seq=0")).text
    assert desk.stage.done[-1] == "mute telegram 3600"


async def test_events_of_a_sink_are_muted_and_shown(desk: Desk) -> None:
    fields = {"sink": "crm", "seconds": "60", "events": "shop.order.new,shop.order.failed"}
    headers = {**OURS, **BEARER}
    assert (await desk.client.post("/actions/mute", data=fields, headers=headers)).status_code == 200
    assert (await desk.client.post("/actions/unmute", data=fields, headers=headers)).status_code == 200
    assert desk.stage.done == [
        "mute crm 60 shop.order.new shop.order.failed", "mute crm 0 shop.order.new shop.order.failed",
    ]  # fmt: skip
    many = await desk.client.post("/actions/mute", data=fields | {"events": "a," * 101}, headers=headers)
    assert (many.status_code, many.text) == (400, "There is no event of this name.\n")

    await desk.sign_in()
    crm, telegram = desk.stage.status.sinks
    muted = replace(crm, muted_events={"shop.order.new": 7200.0})
    desk.stage.status = replace(desk.stage.status, sinks=[muted, telegram])
    page = (await desk.client.get("/?lang=en&still=1")).text
    assert "muted: shop.order.new, for another 2 h" in page
    assert 'aria-label="Unmute: crm"' in page


async def test_a_muted_sink_needs_no_attention_because_something_waits(desk: Desk) -> None:
    waits = SinkSnapshot(
        "crm", SinkStats(waiting=3, oldest_at=ago(hours=1)), breaker=BreakerState.CLOSED, muted_s=60.0
    )
    desk.stage.status = replace(WELL, sinks=[waits])
    assert "Needs attention" not in (await desk.client.get("/?lang=en")).text
    desk.stage.status = replace(WELL, sinks=[replace(waits, muted_s=0.0)])
    assert [one.kind for one in troubles(desk.stage.status)] == ["late"]


async def test_an_unknown_action_is_none(desk: Desk) -> None:
    assert (await desk.act("explode", "1", BEARER)).status_code == 404


@pytest.mark.parametrize(
    "answer",
    [
        ActionResult.NOT_LEADER,
        ActionResult.POLLING_OFF,
        ActionResult.NO_SINK,
        ActionResult.MISSING,
    ],
)
async def test_what_was_not_done_is_said_with_the_reason(desk: Desk, answer: ActionResult) -> None:
    desk.stage.answer = answer
    said = await desk.act("poll", headers=BEARER)
    assert said.status_code == 409
    await desk.sign_in()
    page = await desk.act("poll")
    assert page.status_code == 409
    assert said.text.strip() in page.text


async def test_that_nobody_leads_is_no_fault_of_the_asker(desk: Desk) -> None:
    desk.stage.answer = ActionResult.NO_LEADER
    said = await desk.act("poll", headers=BEARER)
    assert (said.status_code, said.text) == (503, "No replica leads: nobody polls or delivers.\n")


async def test_a_page_that_stands_still_does_so_after_an_action(desk: Desk) -> None:
    await desk.sign_in()
    answer = await desk.client.post("/actions/poll?lang=en&still=1", headers=OURS)
    assert answer.headers["location"].endswith("&still=1")
    assert "actions/poll?lang=en&amp;still=1" in (await desk.client.get("/?lang=en&still=1")).text


async def test_a_store_that_fails_is_said_in_a_line(desk: Desk) -> None:
    desk.stage.broken = TemporaryError(ErrorKind.STORE, "state in /x: disk I/O error")
    answer = await desk.act("drop", "41", BEARER)
    assert (answer.status_code, answer.text) == (
        503,
        "The state cannot be used: state in /x: disk I/O error\n",
    )


@pytest.mark.parametrize(
    "body", [b"token=" + b"x" * 5000, b"&".join(b"a%d=1" % n for n in range(20)), b"\xff\xfe=\xff"]
)
async def test_a_form_that_is_none_is_refused(desk: Desk, body: bytes) -> None:
    answer = await desk.client.post("/sign-in", content=body, headers=OURS)
    assert answer.status_code in {400, 401, 413}


async def test_what_is_done_during_a_snapshot_is_seen_by_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = anyio.Event(), anyio.Event()
    look = desk.stage.snapshot

    async def slowly() -> StatusSnapshot:
        snapshot = await look()
        begun.set()
        await go_on.wait()
        return snapshot

    await desk.sign_in()
    monkeypatch.setattr(desk.stage, "snapshot", slowly)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.client.get, "/?lang=en")
        await begun.wait()
        await desk.act("replay", "57")
        go_on.set()
    assert "order 1038" not in (await desk.client.get("/?lang=en")).text


async def test_after_an_action_the_page_is_a_new_one(desk: Desk) -> None:
    await desk.sign_in()
    await desk.client.get("/?lang=en")
    await desk.act("replay", "57")
    assert "order 1038" not in (await desk.client.get("/?lang=en")).text
