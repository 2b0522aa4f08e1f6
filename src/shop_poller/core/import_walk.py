"""The initial import: which existing orders a new store records, silently, before its first decision.

These orders were created before the baseline, and are still open or were completed recently. With them, a
later cancellation or refund is decided correctly. The newest come first, because they change most.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shop_poller.core.cursor import KeysetPosition, KeysetWalk
from shop_poller.core.meaning import StatusMeaning, StatusMeanings
from shop_poller.core.model import Page, Query

COMPLETED_FOR = timedelta(days=30)
MAX_WAIT = timedelta(days=7)
OPEN = (StatusMeaning.AWAITING, StatusMeaning.PAID)


class Phase(StrEnum):
    """Which orders are being imported."""

    OPEN = "open"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class ImportPosition:
    """The progress of the import; it survives a restart.

    Attributes:
        created_before: exclusive; orders created at or after this instant are imported already.
        count: how many orders were imported so far.
    """

    phase: Phase
    created_before: datetime
    count: int = 0


@dataclass(frozen=True, slots=True)
class ImportQuery(KeysetWalk):
    """A walk through orders from before the baseline, from new to old; it begins at an ImportPosition."""

    import_position: ImportPosition
    baseline_at: datetime
    meanings: StatusMeanings

    def query(self) -> Query:
        """Return the next request."""
        completed = self.import_position.phase is Phase.COMPLETED
        wanted = (StatusMeaning.COMPLETED,) if completed else OPEN
        return Query(
            per_page=self.per_page,
            newest_first=True,
            created_before=self.keyset_position.bound,
            # Completing an order modifies it, so this finds every completed one.
            modified_after=self.baseline_at - COMPLETED_FOR if completed else None,
            statuses=self.meanings.statuses(*wanted),
            exclude=self.keyset_position.exclude,
            page=self.keyset_position.page_number,
        )


def begin(baseline_at: datetime) -> ImportPosition:
    """Return the position at the start of the import."""
    return ImportPosition(Phase.OPEN, baseline_at)


def import_query(
    import_position: ImportPosition, baseline_at: datetime, meanings: StatusMeanings
) -> ImportQuery:
    """Continue from a position.

    Args:
        import_position: how far the import has come.
        baseline_at: orders from this instant on are announced.
        meanings: of the shop's statuses; only the statuses named there are requested.
    """
    position = KeysetPosition(import_position.created_before, descending=True)
    return ImportQuery(import_position, baseline_at, meanings, keyset_position=position)


def advance(current: ImportQuery, page: Page, *, imported: int) -> ImportQuery | None:
    """Process one page, of which `imported` orders were new; return None at the end of the import.

    Raises:
        TemporaryError: PROTOCOL, see KeysetPosition.advance.
    """
    count = current.import_position.count + imported
    if keyset_position := current.keyset_position.advance(page, current.per_page):
        position = replace(current.import_position, created_before=keyset_position.bound, count=count)
        return replace(current, import_position=position, keyset_position=keyset_position)
    if current.import_position.phase is Phase.OPEN:
        position = ImportPosition(Phase.COMPLETED, current.baseline_at, count)
        return import_query(position, current.baseline_at, current.meanings)
    return None


def baseline(*, shop_time: datetime, started_at: datetime, now: datetime, lookback: timedelta) -> datetime:
    """Return the time of the first start minus the look-back, by the shop's clock.

    Only the difference between `started_at` and `now` is used. If it exceeds MAX_WAIT, it is ignored: our
    clock was probably set in between.

    Args:
        shop_time: the shop's clock at its first response ever.
        started_at: our clock at the first start.
        now: our clock at that first response.
        lookback: SHOP_INITIAL_LOOKBACK.
    """
    waited = max(now - started_at, timedelta(0))
    if waited > MAX_WAIT:
        waited = timedelta(0)
    return (shop_time - waited - lookback).replace(microsecond=0)
