"""Checks values read from a store as carefully as input from outside. Pure.

A disk fault, another program or an editor may have changed any of them. An invalid value is replaced by a
safe one and reported as a problem. If a row has no safe value, only its problems are returned.
A problem never quotes the value, which may contain a buyer's data.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from shop_poller.clock import EPOCH, instant, ms
from shop_poller.core import import_walk
from shop_poller.core.attempts import MOST_ATTEMPTS, MOST_WORDS, NO_ATTEMPTS, Attempt, AttemptLog
from shop_poller.core.cursor import cursor_after_loss
from shop_poller.core.errors import ErrorKind
from shop_poller.core.import_walk import ImportPosition, Phase
from shop_poller.core.model import Delivery, EventType, KnownOrder
from shop_poller.core.tallies import OrderTally
from shop_poller.core.transition import LOST_STATUS
from shop_poller.core.translatable import Text
from shop_poller.ports import (
    Alert,
    Backfill,
    DeliveryRecord,
    DeliveryStatus,
    FinishedDelivery,
    PastDelivery,
    ShopState,
    StoredDelivery,
)
from shop_poller.stores.statuses import UNPAID

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""The position of polling cannot be earlier: WooCommerce did not exist."""
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
LATEST_OF_ORDERS = datetime(9001, 1, 1, tzinfo=UTC)
"""The dates of orders come from the shop; see sources.woocommerce.values."""
LATEST_MS = ms(LATEST)
BIGGEST_SEQ = 2**53
MOST = 2**63 - 1
MOST_COUNT = 10**12
MOST_NAME = 1000
MOST_BODY = 4_000_000
MOST_DETAILS = 1_000_000
MOST_DEPTH = 50
MOST_KIND = 60
PARTS_OF_ATTEMPT = 5

DIGITS = re.compile(r"-?[0-9]{1,19}", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")
NAME = re.compile(r"[\w.:/@#+ -]{1,80}")


def _refuse(constant: str) -> None:
    raise ValueError(constant)


DECODER = json.JSONDecoder(parse_constant=_refuse)


class Reading:
    """Reads the values of one row.

    Attributes:
        problems: what is wrong with the row, one phrase per value.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def whole(
        self, value: object, name: str, default: int = 0, *, low: int = 0, high: int = MOST_COUNT
    ) -> int:
        """Return a whole number within bounds. A text of digits is valid: Redis stores numbers as texts."""
        found = _whole(value)
        if found is None or not low <= found <= high:
            self.problems.append(Text("{name} is not a valid number", name=name))
            return default
        return found

    def moment(
        self,
        value: object,
        name: str,
        default: datetime,
        *,
        first: datetime = EPOCH,
        last: datetime = LATEST,
    ) -> datetime:
        """Return an instant within bounds, from milliseconds since 1970."""
        found = _whole(value)
        if found is None or not ms(first) <= found <= ms(last):
            self.problems.append(Text("{name} is not a valid time", name=name))
            return default
        return instant(found)

    def text(self, value: object, name: str, default: str = "", *, most: int = MOST_NAME) -> str:
        """Return a text of bounded length that is valid UTF-8."""
        if not isinstance(value, str) or not value or len(value) > most or not is_clean(value):
            self.problems.append(Text("{name} is not a valid text", name=name))
            return default
        return value

    def json(self, value: object, name: str, *, most: int = MOST_DETAILS) -> Any:
        """Return the value of a JSON text; None if it is not JSON, too long, or nested too deeply."""
        if isinstance(value, str) and len(value) <= most and is_clean(value):
            try:
                found = DECODER.decode(value)
            except (ValueError, RecursionError):
                found = None
            is_flat = value.count("[") + value.count("{") <= MOST_DEPTH
            if found is not None and (is_flat or _depth(found) <= MOST_DEPTH):
                return found
        self.problems.append(Text("{name} is not valid JSON", name=name))
        return None

    def attempts(self, value: object, name: str = "attempt_log") -> AttemptLog:
        """Return the attempts of a delivery; without any if the value cannot be read.

        Args:
            value: as `attempts_list` returns it, or the JSON of that; None if none were recorded.
            name: of the value.
        """
        if value is None:
            return NO_ATTEMPTS
        if isinstance(value, str):
            value = Reading().json(value, name)
        found = _attempts(value)
        if found is None:
            self.problems.append(Text("{name} is not a list of attempts", name=name))
            return NO_ATTEMPTS
        return found

    def ids(self, value: object, name: str) -> frozenset[int] | None:
        """Return the ids in a list; None if the value is not a list of ids."""
        if isinstance(value, list) and all(_is_id(one) for one in value):
            return frozenset(value)
        self.problems.append(Text("{name} is not a list of ids", name=name))
        return None


def is_clean(text: str) -> bool:
    """Return whether a text can be written as UTF-8. Stores return other bytes as lone surrogates."""
    return text.isascii() or not SURROGATE.search(text)


def is_notification(body: str, names: str) -> bool:
    """Return whether a body and its names are surely valid, by a fast check. If not, check each value."""
    size = len(body)
    if size > MOST_BODY or names[MOST_NAME:] or SURROGATE.search(names + body):
        return False
    try:
        value, end = DECODER.raw_decode(body)
    except (ValueError, RecursionError):
        return False
    return end == size and type(value) is dict and body.count("[") + body.count("{") <= MOST_DEPTH


def name_of(value: object) -> str:
    """Return the name of a row for people: the stored value, if it is short and harmless."""
    text = str(value) if isinstance(value, int | str) else ""
    return text if NAME.fullmatch(text) else Text("(its name cannot be read)")


def known_order(order_id: int, raw: Mapping[str, object]) -> tuple[KnownOrder, list[str]]:
    """Return a record from stored values of any kind, and the problems.

    Without a status, the order counts as unchanged unless the shop dates it later. Without `decided`, events
    are counted from the start again. Without `refund_ids`, its refunds are recorded silently.
    """
    reading = Reading()
    status = LOST_STATUS
    if raw.get("status") != LOST_STATUS:
        status = reading.text(raw.get("status"), "status", LOST_STATUS)
    decided = _decided(reading, raw.get("decided"))
    announced = raw.get("announced_new")
    if announced not in (0, 1):  # so are False and True
        reading.problems.append(Text("announced_new is not a boolean"))
        announced = EventType.NEW in decided or status not in UNPAID
    refund_ids, silent = raw.get("refund_ids"), raw.get("silent_refund_ids")
    awaiting = raw.get("awaiting_since")
    last = LATEST_OF_ORDERS
    modified_at = reading.moment(raw.get("modified_at"), "modified_at", EPOCH, last=last)
    order = KnownOrder(
        id=order_id,
        status=status,
        modified_at=modified_at,
        announced_new=bool(announced),
        decided=decided,
        refund_ids=None if refund_ids is None else reading.ids(refund_ids, "refund_ids"),
        awaiting_since=None
        if awaiting is None
        else reading.moment(awaiting, "awaiting_since", modified_at, last=last),
        silent_refund_ids=frozenset()
        if silent is None
        else reading.ids(silent, "silent_refund_ids") or frozenset(),
    )
    return order, reading.problems


def shop_state(raw: Mapping[str, object]) -> tuple[ShopState, list[str]]:
    """Return the position of polling from stored values of any kind, and the problems.

    A cursor that cannot be read moves back to before the last good poll, never forward. A baseline that
    cannot be read becomes the first start. If no value is left, polling starts as with an empty store.
    """
    reading = Reading()

    def at(name: str, *, first: datetime = EARLIEST, last: datetime = LATEST) -> datetime | None:
        value = raw.get(name)
        if value is None:
            return None
        before = len(reading.problems)
        found = reading.moment(value, name, EPOCH, first=first, last=last)
        return None if len(reading.problems) > before else found

    started = at("started_at", first=EPOCH, last=LATEST_OF_ORDERS)  # only its age matters
    baseline = at("baseline_at")
    cursor, polled = at("cursor_at"), at("last_poll_at")
    if raw.get("started_at") is None:
        reading.problems.append(Text("started_at is missing"))
    has_begun = raw.get("baseline_at") is not None or cursor is not None or polled is not None
    if baseline is None and has_begun:
        if raw.get("baseline_at") is None:
            reading.problems.append(Text("baseline_at is missing"))
        since = [one for one in (started, cursor, polled) if one is not None and EARLIEST <= one < LATEST]
        baseline = min(since, default=None)
    again = None if baseline is None else cursor_after_loss(baseline, polled)
    if cursor is None and raw.get("cursor_at") is not None:
        cursor = again
    refunds = at("refunds_at")
    newest = at("newest_order_at", last=LATEST_OF_ORDERS)
    state = ShopState(
        started_at=started or baseline or EPOCH,
        baseline_at=baseline,
        cursor_at=cursor,
        last_poll_at=polled,
        import_position=_import_position(reading, raw, baseline),
        sweep_after_id=reading.whole(raw.get("sweep_after_id", 0), "sweep_after_id", high=MOST),
        swept_at=at("swept_at"),
        newest_order_at=newest if newest or raw.get("newest_order_at") is None else polled,
        silence_told_at=at("silence_told_at", last=LATEST_OF_ORDERS),
        refunds_at=refunds if refunds or raw.get("refunds_at") is None else again,
        tallied_since=at("tallied_since", last=LATEST_OF_ORDERS),
    )
    return state, reading.problems


def delivery(
    seq: object, raw: Mapping[str, object], now: datetime = EPOCH
) -> tuple[Delivery | None, list[str]]:
    """Return a row of the outbox from its values, or None if it cannot be delivered, and the problems.

    The id and the type of the event are read from its body if their columns are damaged. Invalid times
    become the present.
    """
    reading = Reading()
    number = reading.whole(seq, "seq", low=1, high=BIGGEST_SEQ)
    shop_id = reading.text(raw.get("shop_id"), "shop_id")
    sink = reading.text(raw.get("sink"), "sink")
    key = reading.text(raw.get("key"), "key")
    notification = reading.json(raw.get("body"), "body", most=MOST_BODY)
    if notification is not None and not isinstance(notification, dict):
        reading.problems.append(Text("body is not a notification"))
    if not (number and shop_id and sink and key and isinstance(notification, dict)):
        return None, reading.problems
    event_id = reading.text(raw.get("event_id"), "event_id") or Reading().text(
        notification.get("event_id"), ""
    )
    event_type = reading.text(raw.get("event_type"), "event_type") or Reading().text(
        notification.get("event_type"), ""
    )
    if not event_id or not event_type:
        return None, reading.problems
    created_at = reading.moment(raw.get("created_at"), "created_at", now)
    head_since = raw.get("head_since")
    first_seq = raw.get("first_seq")
    found = Delivery(
        seq=number,
        shop_id=shop_id,
        sink=sink,
        key=key,
        event_id=event_id,
        event_type=event_type,
        body=str(raw["body"]),
        attempts=reading.whole(raw.get("attempts"), "attempts"),
        created_at=created_at,
        head_since=created_at if head_since is None else reading.moment(head_since, "head_since", now),
        first_seq=0 if first_seq is None else reading.whole(first_seq, "first_seq", high=BIGGEST_SEQ),
        attempt_log=reading.attempts(raw.get("attempt_log")),
    )
    return found, reading.problems


def finished(
    seq: object, raw: Mapping[str, object], *, dead: bool
) -> tuple[FinishedDelivery | None, list[str]]:
    """Return a finished delivery from its values, or None if it cannot be identified, and the problems."""
    reading = Reading()
    number = reading.whole(seq, "seq", low=0, high=MOST)
    sink, key = reading.text(raw.get("sink"), "sink"), reading.text(raw.get("key"), "key")
    event_id = reading.text(raw.get("event_id"), "event_id")
    event_type = reading.text(raw.get("event_type"), "event_type")
    at = reading.moment(raw.get("at"), "when it was over", EPOCH)
    fatal = bool(reading.problems)
    first_seq = raw.get("first_seq")
    found = FinishedDelivery(
        number,
        sink,
        key,
        event_id,
        event_type,
        attempts=reading.whole(raw.get("attempts"), "attempts"),
        at=at,
        reason=reading.text(raw.get("reason"), "reason", "(cannot be read)", most=MOST_BODY) if dead else "",
        first_seq=0 if first_seq is None else reading.whole(first_seq, "first_seq", high=MOST),
        attempt_log=reading.attempts(raw.get("attempt_log")),
    )
    return None if fatal else found, reading.problems


def with_text(
    status: DeliveryStatus, over: FinishedDelivery, *, body: object, created_at: object
) -> StoredDelivery:
    """Return a delivery with its text, from stored values of any kind."""
    reading = Reading()
    text = "" if body is None else reading.text(body, "body", "(cannot be read)", most=MOST_BODY)
    return StoredDelivery(status, over, text, reading.moment(created_at, "created_at", over.at))


def attempts_list(log: AttemptLog) -> list[object]:
    """Return a log of attempts as it is stored: how many, then each one that is kept."""
    return [log.count, *([ms(one.at), one.took_ms, one.kind, one.status, one.words] for one in log.kept)]


def delivery_record(seq: object, raw: Mapping[str, object], status: str) -> DeliveryRecord | None:
    """Return the record of a delivery from its values; None if it cannot be identified."""
    over, _ = finished(seq, {**raw, "attempts": 0}, dead=False)
    if over is None:
        return None
    return DeliveryRecord(
        over.sink, over.key, over.event_id, over.event_type, DeliveryStatus(status), over.at
    )


def past_delivery(record: DeliveryRecord | None, body: object) -> PastDelivery | None:
    """Return a delivery with its text; None if one of them is damaged."""
    if record is None or not isinstance(Reading().json(body, "body", most=MOST_BODY), dict):
        return None
    return PastDelivery(record, str(body))


def alert(service: object, raw: Mapping[str, object]) -> tuple[Alert | None, list[str]]:
    """Return an alert from its values, or None if it cannot be identified, and the problems."""
    reading = Reading()
    name = reading.text(service, "service")
    since = reading.moment(raw.get("since"), "since", EPOCH)
    cause = raw.get("cause")
    try:
        kind = ErrorKind(cause if isinstance(cause, str) else "")
    except ValueError:
        reading.problems.append(Text("cause is not a known kind of error"))
        return None, reading.problems
    return None if reading.problems else Alert(name, kind, since), reading.problems


def backfill(raw: Mapping[str, object]) -> tuple[Backfill | None, list[str]]:
    """Return the position of a backfill, and the problems.

    The position is None if it cannot be read: the backfill then starts from the beginning.
    """
    reading = Reading()
    found = Backfill(
        since=reading.moment(raw.get("since"), "since", EPOCH),
        created_before=reading.moment(
            raw.get("created_before"), "created_before", EPOCH, last=LATEST_OF_ORDERS
        ),
        imported=reading.whole(raw.get("learned"), "learned"),
    )
    return None if reading.problems else found, reading.problems


def tally(day: object, value: object) -> tuple[tuple[date, OrderTally] | None, list[str]]:
    """Return a day and its tally from stored values, or None if they cannot be read, and the problems."""
    reading = Reading()
    found = reading.json(value, "tally")
    try:
        when = date.fromisoformat(reading.text(day, "day", most=10))
        counts = OrderTally.of_json(found)
    except ValueError:
        return None, reading.problems or ["it is not the tally of a day"]
    return (when, counts), []


def tally_text(counts: OrderTally) -> str:
    """Return a tally as it is stored."""
    return json.dumps(counts.as_json(), ensure_ascii=False, separators=(",", ":"))


def _import_position(
    reading: Reading, raw: Mapping[str, object], baseline: datetime | None
) -> ImportPosition | None:
    phase = raw.get("learning_phase")
    if phase is None or phase == "" or baseline is None:
        if raw.get("learning_phase"):
            reading.problems.append(Text("learning_phase is set before there is a baseline"))
        return None
    before = reading.moment(
        raw.get("learning_before_at"), "learning_before_at", EPOCH, first=EARLIEST, last=LATEST_OF_ORDERS
    )
    if phase not in {str(one) for one in Phase}:
        reading.problems.append(Text("learning_phase is not a known phase"))
        return import_walk.begin(baseline)
    count = reading.whole(raw.get("learning_count"), "learning_count")
    # Orders that are imported already have records, which do not change.
    return (
        import_walk.begin(baseline) if before == EPOCH else ImportPosition(Phase(str(phase)), before, count)
    )


def _decided(reading: Reading, value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        reading.problems.append(Text("decided is not a table of counts"))
        return {}
    good = {
        str(name): count
        for name, count in value.items()
        if type(count) is int and 0 <= count <= MOST_COUNT and is_clean(str(name))
    }
    if len(good) != len(value):
        reading.problems.append(Text("decided has a value that is not a count"))
    return good


def _attempts(value: object) -> AttemptLog | None:
    if not isinstance(value, list) or not value or len(value) > MOST_ATTEMPTS + 1:
        return None
    count, *kept = value
    if not _is_count(count) or count < len(kept) or bool(count) != bool(kept):
        return None
    found = [_attempt(one) for one in kept]
    attempts = tuple(one for one in found if one is not None)
    return AttemptLog(count, attempts) if len(attempts) == len(kept) else None


def _attempt(value: object) -> Attempt | None:
    if not isinstance(value, list) or len(value) != PARTS_OF_ATTEMPT:
        return None
    at, took_ms, kind, status, words = value
    is_valid = (
        type(at) is int
        and 0 <= at <= LATEST_MS
        and _is_count(took_ms)
        and isinstance(kind, str)
        and 0 < len(kind) <= MOST_KIND
        and is_clean(kind)
        and (status is None or _is_count(status))
        and isinstance(words, str)
        and len(words) <= MOST_WORDS
        and is_clean(words)
    )
    return Attempt(instant(at), took_ms, kind, status, words) if is_valid else None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_COUNT


def _whole(value: object) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and DIGITS.fullmatch(value):
        return int(value)
    return None


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _depth(value: object) -> int:
    """Return how deeply lists and objects are nested. It does not recurse."""
    depth, level = 0, [value]
    while level and depth <= MOST_DEPTH:
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        level = [one for one in inner if isinstance(one, dict | list)]
        depth += 1
    return depth
