"""The command `preview`: shows what each sink would receive with the present settings. Changes nothing.

It renders past events from the state. Their text is compared with what was sent, so that the effect of a
changed setting or template can be seen. If there are none, it renders the built-in examples.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import anyio
import typer

from shop_poller.cli.console import (
    EARLIEST,
    Config,
    EnoughError,
    ShopId,
    SinkName,
    load_shops_config,
    make_app,
    refused,
    say,
    store_of,
    unknown_sink,
)
from shop_poller.clock import now
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import choose
from shop_poller.config.sinks import SinkConfig
from shop_poller.core.examples import examples as built_in_examples
from shop_poller.core.filters import Filter, problems, takers
from shop_poller.core.messages import MessageFormat
from shop_poller.core.model import Delivery, EventType, Notification
from shop_poller.core.showing import shown_place
from shop_poller.core.translatable import Text
from shop_poller.runtime.factory import make_message_format, sink_problem
from shop_poller.runtime.message_templates import check_templates
from shop_poller.stores import peek_store

MOST_READ = 2_000
"""Deliveries that are read from the state, the latest."""
AGE = re.compile(r"([0-9]{1,4})([dh])")
MIDNIGHTS = {"today": 0, "yesterday": 1}
INDENT = "    "

app = make_app()

Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="WHEN", help="yesterday, today, 3d, 12h, or a date, in the shop's time zone."
    ),
]
Event = Annotated[
    str | None,
    typer.Option("--event", metavar="NAME", help="Only this event: shop.order.new, new, or shop.order.*"),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MOST_READ, help="Events at most, the latest.")]
Examples = Annotated[bool, typer.Option("--examples", help="Show the built-in examples, not past events.")]


@dataclass(frozen=True, slots=True)
class PreviewedEvent:
    """An event to render.

    Attributes:
        about: the first line: when, what, which order.
        sent: by sink, the bodies that were stored for it; None for an example.
    """

    about: str
    notification: Notification
    sent: dict[str, str] | None = field(default=None)


@app.command(
    epilog="""\b
Examples:
  shop-poller preview
  shop-poller preview --since yesterday --event failed
  shop-poller preview --examples --event new
Exit codes: 2 settings, a template, or no such event or sink; 5 state."""
)
def preview(
    *,
    since: Since = None,
    event: Event = None,
    sink: SinkName = None,
    limit: Limit = 10,
    examples: Examples = False,
    config: Config = None,
    shop: ShopId = None,
) -> None:
    """Show past events as each sink would receive them now; the daemon may be running."""
    shops = load_shops_config(config, needs_shop_keys=False).shops
    settings = choose(shops, shop)
    check_templates(shops)
    zone = ZoneInfo(settings.shop_timezone) if settings.shop_timezone else None
    start = moment(since, zone=zone, now=now())
    sinks = [one for one in settings.sinks if sink in {None, one.name}]
    if not sinks:
        raise unknown_sink(sink or "", [shown_place(one.name) for one in settings.sinks])
    message_format = make_message_format(settings, names_shop=len(shops) > 1)
    past = [] if examples else anyio.run(read_past, settings, start, zone)
    wanted = Filter((event,) if event is not None else ())
    known = {name for name, _ in settings.events} | {one.notification.event_type for one in past}
    for problem in problems(wanted, events=known, levels=()):
        raise refused(problem)
    found = _matching(past, wanted)
    with suppress(EnoughError):
        if not found:
            if not examples:
                say(Text("no such event is stored; these are examples"))
            found = _matching(list(example_events(settings, message_format, now())), wanted)[::-1]
            limit = len(found)
        for one in reversed(found[:limit]):
            for line in lines(one, sinks, message_format, settings):
                say(line)
        if len(found) > limit:
            say(Text("{count:,} more; --limit shows more", count=len(found) - limit))


def moment(text: str | None, *, zone: tzinfo | None, now: datetime) -> datetime:
    """Return the beginning of the time that `--since` names.

    Args:
        text: as typed; None for all time.
        zone: days begin at its midnight; None for this machine's zone.
        now: aware.

    Raises:
        BadParameter: it names no time, or one in the future.
    """
    if text is None:
        return datetime(EARLIEST, 1, 1, tzinfo=UTC)
    age = AGE.fullmatch(text)
    here = now.astimezone(zone)
    if age is not None:
        return now - timedelta(**{{"d": "days", "h": "hours"}[age[2]]: int(age[1])})
    if text in MIDNIGHTS:
        day = here.date() - timedelta(days=MIDNIGHTS[text])
        at = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - the zone follows
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise typer.BadParameter(
                Text("should be yesterday, today, an age such as 3d or 12h, or a date such as 2026-11-20"),
                param_hint="--since",
            ) from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone) if zone is not None else at.astimezone()
    if not at.year >= EARLIEST or at > now:
        raise typer.BadParameter(
            Text("is before {year} or in the future", year=EARLIEST), param_hint="--since"
        )
    return at


async def read_past(settings: Settings, since: datetime, zone: tzinfo | None) -> list[PreviewedEvent]:
    """Read the events of the state, the latest first; none if there is no state yet.

    Raises:
        PermanentError, TemporaryError: STORE.
    """
    if isinstance(settings.state, Path) and not await anyio.Path(settings.state).exists():
        return []
    async with store_of(settings, peek_store) as store:
        await store.load(settings.shop)  # raises if the state belongs to another shop
        past = await store.past_deliveries(settings.shop, since=since, limit=MOST_READ)
    found: dict[str, PreviewedEvent] = {}
    for one in past:
        record = one.record
        if record.event_id not in found:
            notification = as_now(one.body, record.key, settings)
            if notification is None:
                continue
            at = notification.created_at.astimezone(zone)
            about = f"{at:%Y-%m-%d %H:%M}  {record.event_type}  {record.key}"
            found[record.event_id] = PreviewedEvent(about, notification, {})
        sent = found[record.event_id].sent
        if sent is not None:
            sent.setdefault(record.sink, one.body)
    return sorted(found.values(), key=lambda one: one.notification.created_at, reverse=True)


def as_now(body: str, key: str, settings: Settings) -> Notification | None:
    """Return the notification of a stored body, without personal data that is not announced any more.

    It is None if the body was written by an earlier version that lacks parts of it.
    """
    try:
        wire: dict[str, Any] = json.loads(body)
        data = dict(wire["data"])
        buyer = {
            name: text for name, text in data.pop("buyer", {}).items() if name in settings.shop_buyer_fields
        }
        return Notification.of_wire(wire | {"data": data | ({"buyer": buyer} if buyer else {})}, key=key)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def example_events(
    settings: Settings, message_format: MessageFormat, now: datetime
) -> Iterator[PreviewedEvent]:
    """Yield the built-in examples."""
    own = tuple(settings.shop_status_events.values())
    for name, example in built_in_examples(message_format, now=now, own=own):
        notification = as_now(example.body(), example.key, settings) or example
        about = Text("example: {name}  {event}", name=name, event=notification.event_type)
        yield PreviewedEvent(about, notification)


def _matching(events: Sequence[PreviewedEvent], wanted: Filter) -> list[PreviewedEvent]:
    """Return the events that `--event` names; all without it."""
    return [one for one in events if not wanted.events or wanted.wants(one.notification.event_type, level="")]


def lines(
    event: PreviewedEvent, sinks: Sequence[SinkConfig], message_format: MessageFormat, settings: Settings
) -> Iterator[str]:
    """Yield the lines about an event: what it is, and for each sink its message, or how it differs.

    Raises:
        SettingsError: a sink cannot be used.
    """
    yield event.about
    accepting = _accepting(event, sinks)

    def as_delivery(sink: SinkConfig, body: str) -> Delivery:
        return Delivery.unstored(event.notification, shop_id=settings.shop, sink=sink.name, body=body)

    count = 0
    for sink in sinks:
        body = message_format.render(sink.name, event.notification) if sink.name in accepting else None
        before = event.sent.get(sink.name) if event.sent is not None else None
        try:
            then, text = (
                None if one is None else sink.shown(as_delivery(sink, one)) for one in (before, body)
            )
        except ValueError as error:
            raise SettingsError([sink_problem(sink.name, error)]) from error
        if then is None and text is None:
            continue
        count += 1
        note, shown_lines = _compared(then, text, is_past=event.sent is not None)
        yield Text("  {sink}{note}", sink=shown_place(sink.name), note=note)
        yield from (f"{INDENT}{line}" for line in shown_lines)
    if not count:
        yield Text("  no sink receives it")
        if event.notification.event_type == EventType.DIGEST:
            yield Text("  add digest=daily@09:00 to the address of a sink")
    yield ""


def _accepting(event: PreviewedEvent, sinks: Sequence[SinkConfig]) -> list[str]:
    """Return the names of the sinks that would receive an event. A digest is made for one sink."""
    if event.notification.event_type != EventType.DIGEST:
        return takers({sink.name: sink.filter for sink in sinks}, event.notification)
    return [
        sink.name
        for sink in sinks
        if sink.options.digest is not None and (event.sent is None or sink.name in event.sent)
    ]


def _compared(then: str | None, text: str | None, *, is_past: bool) -> tuple[str, list[str]]:
    """Return a note and the lines of a message, or how it differs from what was sent."""
    if text is None:
        return Text(" (would not receive it now)"), [f"- {line}" for line in (then or "").split("\n")]
    if then is None:
        return Text(" (did not receive it)") if is_past else "", text.split("\n")
    if then == text:
        return "", text.split("\n")
    old, new = then.split("\n"), text.split("\n")
    diff = list(unified_diff(old, new, lineterm="", n=len(old) + len(new)))[3:]
    return Text(" (differs from what was sent)"), [f"{line[0]} {line[1:]}" for line in diff]
