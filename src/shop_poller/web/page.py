"""The status page as HTML: no script, no request but its own. It names orders by number, and no buyers."""

from datetime import datetime

from shop_poller.core.messages import CAUSES, Locale
from shop_poller.core.model import iso
from shop_poller.web.chart import chart
from shop_poller.web.frame import LOOKS, REFRESH_S, document
from shop_poller.web.markup import Markup, fill, foreign, joined
from shop_poller.web.snapshot import StatusSnapshot
from shop_poller.web.tables import events, letters, sinks
from shop_poller.web.troubles import Trouble, troubles
from shop_poller.web.view_context import ViewContext
from shop_poller.web.words import TEXTS


def status_page(snapshot: StatusSnapshot, look: ViewContext) -> str:
    """How it goes, as a whole page."""
    found = troubles(snapshot)
    verdict = "bad" if any(one.grave for one in found) else "some" if found else "good"
    starting = (
        not found and snapshot.polling and (snapshot.state is None or snapshot.state.last_poll_at is None)
    )
    heading = look.say({"good": "well", "some": "attention", "bad": "unwell"}[verdict])
    if starting:
        verdict, heading = "some", look.say("starting")
    if found:
        under = fill("<ul>{items}</ul>", items=joined(_trouble(look, one, snapshot.now) for one in found))
    else:
        calm = "starting since" if starting else "well since" if snapshot.polling else "resting"
        under = fill("<p>{text}</p>", text=look.say(calm))
    parts = [
        _notice(look),
        _verdict(verdict, heading, under),
        _tiles(look, snapshot),
        _chart(look, snapshot),
        sinks(look, snapshot),
        *(part(look, snapshot) for part in ((letters, events) if snapshot.dead else (events, letters))),
    ]
    body = fill(
        '{header}<main id="content" class="wide">{parts}</main>{footer}',
        header=_header(look, snapshot),
        parts=joined(parts),
        footer=_footer(look, snapshot),
    )
    title = f"{LOOKS[verdict][0]} {look.say('title', shop=snapshot.shop)}"
    return document(look, body, title=title, verdict=verdict, refresh=not look.still)


def _header(look: ViewContext, snapshot: StatusSnapshot) -> Markup:
    other: Locale = "en" if look.locale == "ru" else "ru"
    entry = Markup()
    if look.acts and look.signed_in:
        entry = fill(
            '<form method="post" action="sign-out"><button>{text}</button></form>', text=look.say("sign out")
        )
    elif look.acts:
        entry = fill('<a href="sign-in?lang={lang}">{text}</a>', lang=look.locale, text=look.say("sign in"))
    return fill(
        '<header><h1>{shop} <span class="version">shop-poller {version}</span></h1><nav aria-label="{label}">'
        '<a href="{url}" lang="{other}" hreflang="{other}">{language}</a>{entry}</nav></header>',
        shop=foreign(snapshot.shop),
        version=snapshot.version,
        label=look.say("page"),
        url=look.place(lang=other),
        other=other,
        language=look.say("other language"),
        entry=entry,
    )


def _notice(look: ViewContext) -> Markup:
    if not look.notice:
        return Markup()
    return fill('<section class="notice full" role="status">{text}</section>', text=look.notice)


def _verdict(verdict: str, heading: str, under: Markup) -> Markup:
    return fill(
        '<section class="verdict {verdict} full"><h2><span class="sign" aria-hidden="true">{sign}</span>'
        "{heading}</h2>{under}</section>",
        verdict=verdict,
        sign=LOOKS[verdict][0],
        heading=heading,
        under=under,
    )


def _trouble(look: ViewContext, trouble: Trouble, now: datetime) -> Markup:
    age = (now - trouble.since).total_seconds() if trouble.since else trouble.seconds
    text = fill(
        TEXTS[look.locale][trouble.kind],
        name=foreign(trouble.name),
        count=look.number(trouble.count),
        ago=look.ago(trouble.since, now),
        age=look.age(age),
        cause=CAUSES[look.locale][trouble.cause] if trouble.cause else "",
        detail=foreign(trouble.detail),
    )
    return fill(
        '<li>{text} <span class="where">{what} <code>{section}</code></span></li>',
        text=text,
        what=look.say("what to do"),
        section=trouble.section,
    )


def _tiles(look: ViewContext, snapshot: StatusSnapshot) -> Markup:
    stored = [sink.stored for sink in snapshot.sinks]
    held = [sink.held for sink in snapshot.sinks if sink.held is not None]
    oldest = min((one.oldest_at for one in stored if one.oldest_at), default=None)
    unknown = look.say("not known")
    lag = look.say("no lag") if oldest is None else look.age((snapshot.now - oldest).total_seconds())
    tiles: dict[str, object] = {
        "last poll": look.ago(snapshot.state.last_poll_at if snapshot.state else None, snapshot.now),
        "next poll": _next(look, snapshot),
        "lag": lag,
        "outbox": look.number(sum(one.waiting for one in stored)),
        "queue": look.number(sum(held)) if held or snapshot.leads else look.say("known to the leader"),
        "dead letters": look.number(sum(one.dead for one in stored)),
        "known": look.number(snapshot.known),
        "leads": look.say("this one") if snapshot.leads else foreign(snapshot.leader or look.say("nobody")),
    }
    if snapshot.trouble:
        tiles.update(dict.fromkeys(("last poll", "lag", "outbox", "dead letters", "known"), unknown))
        if not snapshot.leads:  # there may be no other replica
            tiles.update(dict.fromkeys(("queue", "leads"), unknown))
            tiles["next poll"] = unknown if snapshot.polling else look.say("off")
    shown = joined(
        fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=look.say(name), value=value)
        for name, value in tiles.items()
    )
    return fill(
        '<section class="full" aria-labelledby="glance"><h2 id="glance">{title}</h2>'
        '<dl class="tiles">{tiles}</dl>{actions}</section>',
        title=look.say("at a glance"),
        tiles=shown,
        actions=_poll_now(look, snapshot),
    )


def _next(look: ViewContext, snapshot: StatusSnapshot) -> str:
    if not snapshot.polling:
        return look.say("off")
    if snapshot.next_in_s is None:
        return look.say("now" if snapshot.leads else "by the leader")
    return look.say("in", age=look.age(snapshot.next_in_s)) if snapshot.next_in_s >= 1 else look.say("now")


def _poll_now(look: ViewContext, snapshot: StatusSnapshot) -> Markup:
    if not look.acts:
        return Markup()
    if not look.signed_in:
        return fill('<p class="soft">{text}</p>', text=look.say("to act"))
    if not (snapshot.polling and snapshot.leads):
        return Markup()
    return fill(
        '<form class="deeds" method="post" action="{action}"><button class="main">{text}</button></form>',
        action=look.action("poll"),
        text=look.say("poll now"),
    )


def _chart(look: ViewContext, snapshot: StatusSnapshot) -> Markup:
    most = max((sum(pair) for pair in zip(snapshot.made, snapshot.dead_lettered, strict=True)), default=0)
    text = look.say(
        "chart text",
        made=look.number(sum(snapshot.made)),
        dead_lettered=look.number(sum(snapshot.dead_lettered)),
        most=look.number(most),
    )
    picture = chart(
        snapshot.made,
        snapshot.dead_lettered,
        title=look.say("chart title"),
        text=text,
        ends=(look.say("first hour"), look.say("last hour")),
    )
    return fill(
        '<section aria-labelledby="day"><h2 id="day">{title}</h2>{picture}'
        '<p class="soft">{text}</p></section>',
        title=look.say("chart"),
        picture=picture,
        text=text,
    )


def _footer(look: ViewContext, snapshot: StatusSnapshot) -> Markup:
    at = fill(
        '<time datetime="{iso}">{text}</time>', iso=iso(snapshot.now), text=f"{snapshot.now:%H:%M:%S} UTC"
    )
    text = TEXTS[look.locale]["read at still" if look.still else "read at"]
    return fill(
        '<footer><p>{read} <a href="{url}">{turn}</a></p></footer>',
        read=fill(text, at=at, seconds=REFRESH_S),
        url=look.place(still=not look.still),
        turn=look.say("go on" if look.still else "stand still"),
    )
