"""The status page as HTML: no script, no request but its own. It names orders by number, and no buyers."""

from datetime import datetime

from shop_poller.core.messages import CAUSES, Locale
from shop_poller.core.model import iso
from shop_poller.web.chart import chart
from shop_poller.web.frame import LOOKS, REFRESH_S, document
from shop_poller.web.glance import Glance
from shop_poller.web.look import Look
from shop_poller.web.markup import Markup, fill, foreign, joined
from shop_poller.web.tables import events, letters, sinks
from shop_poller.web.troubles import Trouble, troubles
from shop_poller.web.words import TEXTS


def status_page(glance: Glance, look: Look) -> str:
    """How it goes, as a whole page."""
    found = troubles(glance)
    verdict = "bad" if any(one.grave for one in found) else "some" if found else "good"
    starting = not found and glance.polling and (glance.state is None or glance.state.last_poll_at is None)
    heading = look.say({"good": "well", "some": "attention", "bad": "unwell"}[verdict])
    if starting:
        verdict, heading = "some", look.say("starting")
    if found:
        under = fill("<ul>{items}</ul>", items=joined(_trouble(look, one, glance.now) for one in found))
    else:
        calm = "starting since" if starting else "well since" if glance.polling else "resting"
        under = fill("<p>{text}</p>", text=look.say(calm))
    parts = [
        _notice(look),
        _verdict(verdict, heading, under),
        _tiles(look, glance),
        _chart(look, glance),
        sinks(look, glance),
        *(part(look, glance) for part in ((letters, events) if glance.dead else (events, letters))),
    ]
    body = fill(
        '{header}<main id="content" class="wide">{parts}</main>{footer}',
        header=_header(look, glance),
        parts=joined(parts),
        footer=_footer(look, glance),
    )
    title = f"{LOOKS[verdict][0]} {look.say('title', shop=glance.shop)}"
    return document(look, body, title=title, verdict=verdict, refresh=not look.still)


def _header(look: Look, glance: Glance) -> Markup:
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
        shop=foreign(glance.shop),
        version=glance.version,
        label=look.say("page"),
        url=look.place(lang=other),
        other=other,
        language=look.say("other language"),
        entry=entry,
    )


def _notice(look: Look) -> Markup:
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


def _trouble(look: Look, trouble: Trouble, now: datetime) -> Markup:
    age = (now - trouble.since).total_seconds() if trouble.since else 0.0
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


def _tiles(look: Look, glance: Glance) -> Markup:
    stored = [sink.stored for sink in glance.sinks]
    held = [sink.held for sink in glance.sinks if sink.held is not None]
    oldest = min((one.oldest_at for one in stored if one.oldest_at), default=None)
    unknown = look.say("not known")
    lag = look.say("no lag") if oldest is None else look.age((glance.now - oldest).total_seconds())
    tiles: dict[str, object] = {
        "last poll": look.ago(glance.state.last_poll_at if glance.state else None, glance.now),
        "next poll": _next(look, glance),
        "lag": lag,
        "outbox": look.number(sum(one.waiting for one in stored)),
        "queue": look.number(sum(held)) if held or glance.leads else look.say("known to the leader"),
        "dead letters": look.number(sum(one.dead for one in stored)),
        "known": look.number(glance.known),
        "leads": look.say("this one") if glance.leads else foreign(glance.leader or look.say("nobody")),
    }
    if glance.trouble:
        tiles.update(dict.fromkeys(("last poll", "lag", "outbox", "dead letters", "known"), unknown))
        if not glance.leads:  # there may be no other replica
            tiles.update(dict.fromkeys(("queue", "leads"), unknown))
            tiles["next poll"] = unknown if glance.polling else look.say("off")
    shown = joined(
        fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=look.say(name), value=value)
        for name, value in tiles.items()
    )
    return fill(
        '<section class="full" aria-labelledby="glance"><h2 id="glance">{title}</h2>'
        '<dl class="tiles">{tiles}</dl>{deeds}</section>',
        title=look.say("at a glance"),
        tiles=shown,
        deeds=_poll_now(look, glance),
    )


def _next(look: Look, glance: Glance) -> str:
    if not glance.polling:
        return look.say("off")
    if glance.next_in_s is None:
        return look.say("now" if glance.leads else "by the leader")
    return look.say("in", age=look.age(glance.next_in_s)) if glance.next_in_s >= 1 else look.say("now")


def _poll_now(look: Look, glance: Glance) -> Markup:
    if not look.acts:
        return Markup()
    if not look.signed_in:
        return fill('<p class="soft">{text}</p>', text=look.say("to act"))
    if not (glance.polling and glance.leads):
        return Markup()
    return fill(
        '<form class="deeds" method="post" action="{action}"><button class="main">{text}</button></form>',
        action=look.deed("poll"),
        text=look.say("poll now"),
    )


def _chart(look: Look, glance: Glance) -> Markup:
    most = max((sum(pair) for pair in zip(glance.made, glance.buried, strict=True)), default=0)
    text = look.say(
        "chart text",
        made=look.number(sum(glance.made)),
        buried=look.number(sum(glance.buried)),
        most=look.number(most),
    )
    picture = chart(
        glance.made,
        glance.buried,
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


def _footer(look: Look, glance: Glance) -> Markup:
    at = fill('<time datetime="{iso}">{text}</time>', iso=iso(glance.now), text=f"{glance.now:%H:%M:%S} UTC")
    text = TEXTS[look.locale]["read at still" if look.still else "read at"]
    return fill(
        '<footer><p>{read} <a href="{url}">{turn}</a></p></footer>',
        read=fill(text, at=at, seconds=REFRESH_S),
        url=look.place(still=not look.still),
        turn=look.say("go on" if look.still else "stand still"),
    )
