"""Judges several shops, sorts them with the worst first, and chooses those that the reader asked for."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlencode

from shop_poller.core.plain_text import plain
from shop_poller.web.fleet_snapshot import FleetRow
from shop_poller.web.troubles import Trouble, troubles

MOST_ROWS = 1000
"""Of one page of the overview."""
MOST_SELECTABLE = 500
"""The same for readers that may act: rows that can be selected are larger."""
MOST_LETTERS = 100
"""Of each choice of the reader."""
NEVER = datetime.max.replace(tzinfo=UTC)


class ShopVerdict(StrEnum):
    """How a shop is, the worst first. The values are parts of addresses."""

    BAD = "bad"  # something does not work
    SOME = "some"  # something needs attention
    STARTING = "starting"  # the shop has not answered yet, or nothing was read yet
    OFF = "off"  # polling is off, and all else is well
    GOOD = "good"


RANKS: Mapping[ShopVerdict, int] = {verdict: rank for rank, verdict in enumerate(ShopVerdict)}
NEEDY = "needy"
"""The choice of all shops that need the reader: BAD and SOME."""
STATES = (NEEDY, *ShopVerdict)


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A shop with its verdict.

    Attributes:
        trouble: the worst problem; None if there is none.
        more: how many problems there are besides.
    """

    row: FleetRow
    verdict: ShopVerdict
    trouble: Trouble | None = None
    more: int = 0

    @property
    def since(self) -> datetime | None:
        """When the worst problem began; None if that is not known, or there is none."""
        return self.trouble.since if self.trouble is not None else None


def judged(row: FleetRow) -> JudgedRow:
    """Return a shop with its verdict, which is that of the page of the shop."""
    snapshot = row.snapshot
    if snapshot is None:
        return JudgedRow(row, ShopVerdict.STARTING)
    found = troubles(snapshot)
    if found:
        last_poll_at = snapshot.state.last_poll_at if snapshot.state else None
        worst = replace(found[0], since=last_poll_at) if found[0].kind == "leader" else found[0]
        return JudgedRow(row, ShopVerdict.BAD if worst.grave else ShopVerdict.SOME, worst, len(found) - 1)
    if not snapshot.polling:
        return JudgedRow(row, ShopVerdict.OFF)
    if snapshot.state is None or snapshot.state.last_poll_at is None:
        return JudgedRow(row, ShopVerdict.STARTING)
    return JudgedRow(row, ShopVerdict.GOOD)


def worst_first(rows: Iterable[JudgedRow]) -> list[JudgedRow]:
    """Sort shops: the worst first; of these, those that have been so for longest; then by name."""
    return sorted(
        rows, key=lambda one: (RANKS[one.verdict], one.since or NEVER, one.row.name.casefold(), one.row.shop)
    )


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """Which shops the reader asked for.

    Attributes:
        text: a part of the id, the name or a tag; "" for all.
        state: one of STATES; "" for all.
        tag: "" for all.
        page: of MOST_ROWS or MOST_SELECTABLE shops each, from 1.
    """

    text: str = ""
    state: str = ""
    tag: str = ""
    page: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "FleetQuery":
        """Read the choices; what is no choice is left out."""
        state, page = parameters.get("state", ""), parameters.get("page", "")
        is_page = page.isascii() and page.isdigit() and 0 < len(page) < 4 and int(page) > 0
        return cls(
            text=plain(parameters.get("q", "")[:MOST_LETTERS]).strip(),
            state=state if state in STATES else "",
            tag=parameters.get("tag", "")[:MOST_LETTERS],
            page=int(page) if is_page else 1,
        )

    @property
    def parameters(self) -> str:
        """The choices as a part of an address; "" if there are none."""
        given = {"q": self.text, "state": self.state, "tag": self.tag}
        if self.page > 1:
            given["page"] = str(self.page)
        return urlencode({name: value for name, value in given.items() if value}, errors="replace")

    def accepts(self, one: JudgedRow) -> bool:
        """Return whether the reader asked for this shop."""
        row, text = one.row, self.text.casefold()
        if self.tag and self.tag not in row.tags:
            return False
        if self.state == NEEDY:
            if one.verdict not in {ShopVerdict.BAD, ShopVerdict.SOME}:
                return False
        elif self.state and self.state != one.verdict:
            return False
        return not text or any(text in part.casefold() for part in (row.shop, row.name, *row.tags))


def tags_of(rows: Iterable[JudgedRow]) -> list[str]:
    """Return all tags, sorted."""
    return sorted({tag for one in rows for tag in one.row.tags})


def count_of(rows: Sequence[JudgedRow], verdicts: Collection[ShopVerdict]) -> int:
    """Return how many shops have one of these verdicts."""
    return sum(one.verdict in verdicts for one in rows)
