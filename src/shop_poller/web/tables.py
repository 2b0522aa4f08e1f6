"""The tables of the status page: sinks, events with their deliveries, dead letters."""

from datetime import datetime

from shop_poller.core.attempts import DELIVERED, Attempt, AttemptLog
from shop_poller.core.breaker import BreakerState
from shop_poller.core.model import iso
from shop_poller.locales import page_texts
from shop_poller.ports import FinishedDelivery
from shop_poller.web.markup import Markup, fill, foreign, joined
from shop_poller.web.snapshot import RecentEvent, SinkSnapshot, StatusSnapshot
from shop_poller.web.view_context import ViewContext

MUTE_S = 3600
"""For how long the button mutes a sink."""


def sinks(view: ViewContext, snapshot: StatusSnapshot) -> Markup:
    """Show the sinks, their state, and what waits for them."""
    rows = joined(_sink(view, sink, snapshot) for sink in snapshot.sinks)
    return fill(
        '<section aria-labelledby="sinks"><h2 id="sinks">{title}</h2><table><thead><tr>'
        '<th scope="col">{sink}</th><th scope="col">{state}</th>'
        '<th scope="col" class="number">{waiting}</th></tr></thead>'
        "<tbody>{rows}</tbody></table></section>",
        title=view.say("sinks"),
        sink=view.say("sink"),
        state=view.say("state"),
        waiting=view.say("waiting"),
        rows=rows,
    )


def _sink(view: ViewContext, sink: SinkSnapshot, snapshot: StatusSnapshot) -> Markup:
    tone, state = _sink_state(view, sink, snapshot.now)
    if sink.muted_events and not sink.muted_s:
        age = view.age(max(sink.muted_events.values()))
        tone, state = (
            "is-some",
            view.say("muted events", state=state, events=", ".join(sink.muted_events), age=age),
        )
    waiting = view.number(sink.stored.waiting)
    if snapshot.trouble:  # the store, which knows this and who delivers, cannot be read
        waiting = view.say("not known")
        state = view.say("not known") if sink.breaker is None else state
    return fill(
        '<tr><th scope="row">{name}</th><td><span class="{tone}">{state}</span>{action}</td>'
        '<td class="number">{waiting}</td></tr>',
        action=_mute(view, sink) if view.signed_in and sink.named else Markup(),
        name=foreign(sink.name),
        tone=tone,
        state=state,
        waiting=waiting,
    )


def _sink_state(view: ViewContext, sink: SinkSnapshot, now: datetime) -> tuple[str, str]:
    """Return the style and the text of a sink's state."""
    if sink.muted_s and sink.named and not sink.gone:
        return "is-some", view.say("muted", age=view.age(sink.muted_s))
    if sink.failing_since is not None and sink.breaker is BreakerState.CLOSED:
        return "is-some", view.say("failing", age=view.age((now - sink.failing_since).total_seconds()))
    tone, words = {
        BreakerState.OPEN: ("is-bad", "paused"),
        BreakerState.HALF_OPEN: ("is-some", "probing"),
        BreakerState.CLOSED: ("is-good", "works"),
        None: ("soft", "known to the leader"),
    }[sink.breaker]
    is_well = sink.named and not sink.gone and sink.breaker in {BreakerState.CLOSED, None}
    if is_well and sink.quiet_until is not None:
        return "soft", view.say("quiet", until=view.clock(sink.quiet_until, now))
    if not sink.named:
        tone, words = "is-some", "not named"
    elif sink.gone:
        tone, words = "is-bad", "gone state"
    return tone, view.say(words)


def _mute(view: ViewContext, sink: SinkSnapshot) -> Markup:
    name = "unmute" if sink.muted_s or sink.muted_events else "mute"
    return fill(
        '<div class="actions"><form method="post" action="{action}">'
        '<input type="hidden" name="sink" value="{sink}">'
        '<input type="hidden" name="seconds" value="{seconds}">'
        '<button aria-label="{text}: {sink}">{text}</button></form></div>',
        action=view.action_url(name),
        sink=sink.name,
        seconds=MUTE_S,
        text=view.say(name),
    )


def events(view: ViewContext, snapshot: StatusSnapshot) -> Markup:
    """Show the latest events, each with its deliveries."""
    rows = joined(_recent_event(view, one, snapshot) for one in snapshot.recent_events)
    table = fill(
        '<table><thead><tr><th scope="col">{event}</th><th scope="col">{deliveries}</th></tr></thead>'
        "<tbody>{rows}</tbody></table>",
        event=view.say("event"),
        deliveries=view.say("deliveries"),
        rows=rows,
    )
    return fill(
        '<section aria-labelledby="events"><h2 id="events">{title}</h2>{content}'
        '<p class="soft">{privacy}</p></section>',
        title=view.say("events"),
        content=table if snapshot.recent_events else fill("<p>{text}</p>", text=view.say("no events")),
        privacy=view.say("privacy"),
    )


def _recent_event(view: ViewContext, event: RecentEvent, snapshot: StatusSnapshot) -> Markup:
    return fill(
        '<tr><th scope="row">{event}<br><span class="soft">{about}</span></th>'
        "<td><ul>{deliveries}</ul></td></tr>",
        event=view.event(event.event_type, snapshot.titles),
        about=view.about(event.key),
        deliveries=joined(_delivery(view, one, snapshot.now) for one in event.deliveries),
    )


def _delivery(view: ViewContext, over: FinishedDelivery, now: datetime) -> Markup:
    dead = bool(over.reason)
    return fill(
        '<li>{sink}: <span class="{tone}">{status}</span> <span class="soft">{ago}{attempts}</span></li>',
        sink=foreign(over.sink),
        tone="is-bad" if dead else "is-good",
        status=view.say("undelivered" if dead else "delivered"),
        ago=view.ago(over.at, now),
        attempts=f", {_counted(view, over.attempt_log)}" if over.attempt_log.count > 1 else "",
    )


def dead_letters(view: ViewContext, snapshot: StatusSnapshot) -> Markup:
    """Show the dead letters, with the actions for them."""
    count = sum(sink.stored.dead for sink in snapshot.sinks)
    if snapshot.dead:
        content = joined(_dead_letter(view, one, snapshot) for one in snapshot.dead)
    else:
        content = fill("<p>{text}</p>", text=view.say("not known" if snapshot.trouble else "no dead letters"))
    more = fill('<p class="soft">{text}</p>', text=view.say("shown", count=view.number(len(snapshot.dead))))
    return fill(
        '<section aria-labelledby="dead-letters"><h2 id="dead-letters">{title}</h2>{content}{more}</section>',
        title=view.say("dead letter list"),
        content=content,
        more=more if count > len(snapshot.dead) else Markup(),
    )


def _dead_letter(view: ViewContext, over: FinishedDelivery, snapshot: StatusSnapshot) -> Markup:
    return fill(
        '<article><h3>{event}, {about}</h3><p class="soft">{to}, {attempts}, {ago}</p><p>{reason}</p>'
        "{log}{actions}</article>",
        event=view.event(over.event_type, snapshot.titles),
        about=view.about(over.key),
        to=fill(page_texts(view.locale)["to"], name=foreign(over.sink)),
        attempts=view.say("attempts", count=over.attempts),
        ago=view.ago(over.at, snapshot.now),
        reason=foreign(over.reason),
        log=_attempts(view, over.attempt_log),
        actions=_actions(view, over) if view.signed_in else Markup(),
    )


def _attempts(view: ViewContext, log: AttemptLog) -> Markup:
    """Show the attempts of a delivery, folded."""
    if not log.kept:
        return Markup()
    lines = [_attempt(view, one) for one in log.kept]
    if log.omitted:
        lines.insert(1, fill("<li>{text}</li>", text=view.say("not kept", count=view.number(log.omitted))))
    return fill(
        '<details class="log"><summary>{count}</summary><ul class="soft">{lines}</ul></details>',
        count=_counted(view, log),
        lines=joined(lines),
    )


def _attempt(view: ViewContext, attempt: Attempt) -> Markup:
    kind = view.say("delivered") if attempt.kind == DELIVERED else attempt.kind
    status = "" if attempt.status is None else f" {attempt.status}"
    return fill(
        '<li><time datetime="{at}">{at}</time> {kind}{status}, {took}{words}</li>',
        at=iso(attempt.at),
        kind=foreign(kind),
        status=status,
        took=view.say("ms", n=view.number(attempt.took_ms)),
        words=fill(": {words}", words=foreign(attempt.words)) if attempt.words else Markup(),
    )


def _counted(view: ViewContext, log: AttemptLog) -> str:
    return view.say("attempts made", count=view.number(log.count))


def _actions(view: ViewContext, over: FinishedDelivery) -> Markup:
    return fill(
        '<div class="actions"><form method="post" action="{to_replay}">'
        '<input type="hidden" name="seq" value="{seq}">'
        '<button aria-label="{replay}: {dead_letter}">{replay}</button></form>'
        '<details><summary aria-label="{drop}: {dead_letter}">{drop}</summary>'
        '<form method="post" action="{to_drop}"><input type="hidden" name="seq" value="{seq}">'
        '<button class="danger" aria-label="{good}: {dead_letter}">{good}</button></form></details></div>',
        to_replay=view.action_url("replay"),
        to_drop=view.action_url("drop"),
        seq=over.seq,
        replay=view.say("replay"),
        drop=view.say("drop"),
        good=view.say("drop for good"),
        dead_letter=view.say("dead letter", seq=over.seq),
    )
