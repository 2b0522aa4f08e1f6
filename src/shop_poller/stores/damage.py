"""Damaged rows: they are logged once, and copies of them are kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from shop_poller.core.translatable import Text

MOST_REPORTED = 1000
MOST_KEPT = 1000
"""Most copies of corrected rows. The copies of rows removed from the outbox are all kept."""
MOST_CONTENT = 4_100_000


@dataclass(frozen=True, slots=True)
class StateFinding:
    """One thing that is wrong with a stored state.

    Attributes:
        place: the table or the key.
        name: the name of the row in it.
        problem: what is wrong. It never quotes the value.
        fix: what a repair does; "" if it can do nothing.
    """

    place: str
    name: str
    problem: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding for `--json`."""
        return {"place": self.place, "name": self.name, "problem": self.problem, "repair": self.fix}

    def line(self) -> str:
        """Return the finding as one line for people."""
        return Text(
            "{place} {name}: {problem}; {fix}",
            place=self.place,
            name=self.name,
            problem=self.problem,
            fix=self.fix or Text("cannot be repaired"),
        )


@dataclass(frozen=True, slots=True)
class Original:
    """A damaged row as it was stored.

    Attributes:
        shop: the id of its shop; "" if that cannot be read.
        place: the table or the key.
        name: the name of the row, for people.
        problems: what is wrong with it.
        row: its values by name.
    """

    shop: str
    place: str
    name: str
    problems: Sequence[str]
    row: Mapping[str, object]


@dataclass
class Damage:
    """The damaged rows found since the store was opened. Each row is logged once."""

    reported: set[tuple[str, str]] = field(default_factory=set)

    def report(self, shop: str, place: str, name: str, problems: Sequence[str]) -> None:
        """Log a row that was set aside or corrected."""
        if (place, name) in self.reported or len(self.reported) >= MOST_REPORTED:
            return
        self.reported.add((place, name))
        structlog.get_logger().error(
            "a stored row is damaged; a copy of it is set aside and work continues",
            shop=shop,
            place=place,
            row=name,
            problem="; ".join(problems)[:300],
            advice="`shop-poller state check` lists all of them",
        )


def content(row: Mapping[str, object]) -> str:
    """Return a row as JSON for its copy. Bytes are written in hexadecimal."""
    kept = {name: _plain(value) for name, value in row.items()}
    return json.dumps(kept)[:MOST_CONTENT]


def _plain(value: object) -> object:
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, bytes):
        return {"hex": value[: MOST_CONTENT // 4].hex()}
    return str(type(value).__name__)
