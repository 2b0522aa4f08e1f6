"""Figures, what is asked of them, and how they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

OURS = ("plain", "fast")
COLUMNS = {
    "plain": "plain",
    "fast": "fast",
    "written": "Celery as written",
    "best": "Celery at its best",
    "bare plain": "bare loop",
    "bare fast": "bare loop, fast",
}


@dataclass(frozen=True)
class Check:
    """What is asked of one figure.

    Attributes:
        what: says it in a few words.
        value: as measured, a figure or a ratio.
        limit: what it may be.
        at_least: it has to be more rather than less.
    """

    what: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is so."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def goal(self) -> str:
        """What is asked."""
        return f"{'≥' if self.at_least else '≤'} {number(self.limit)}"

    def __str__(self) -> str:
        return f"{self.what} {number(self.value)} (goal {self.goal})"


@dataclass
class Row:
    """One thing that was measured.

    Attributes:
        unit: of the figures.
        figures: by contender, see COLUMNS.
        more_is_better: as with deliveries a second.
        notes: what else was seen.
    """

    what: str
    unit: str
    figures: dict[str, float] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    more_is_better: bool = False
    notes: str = ""

    def ratio(self, of: str, to: str) -> float | None:
        """How many times better one is than another; None where one of them was not measured."""
        if not self.figures.get(of) or not self.figures.get(to):
            return None
        quotient = self.figures[of] / self.figures[to]
        return quotient if self.more_is_better else 1 / quotient

    def ask(self, of: str, limit: float, *, at_least: bool = False) -> None:
        """Ask something of a figure, if it was measured."""
        if of in self.figures:
            self.checks.append(Check(of, self.figures[of], limit, at_least))

    def ask_ratio(self, of: str, to: str, limit: float) -> None:
        """Ask how many times better one is than another."""
        found = self.ratio(of, to)
        if found is not None:
            self.checks.append(Check(f"{of}: times better than {COLUMNS[to]}", found, limit, at_least=True))


class Samples:
    """Figures of rounds, by contender."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}

    def add(self, of: str, figure: float) -> None:
        """One more."""
        self._samples.setdefault(of, []).append(figure)

    def medians(self) -> dict[str, float]:
        """The median of each."""
        return {of: median(figures) for of, figures in self._samples.items()}


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def figures(rows: Sequence[Row]) -> list[str]:
    """What was measured, as a table in Markdown."""
    lines = [f"| what | unit | {' | '.join(COLUMNS.values())} |", "|---|---|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = [number(row.figures[of]) if of in row.figures else "" for of in COLUMNS]
        lines.append(f"| {row.what} | {row.unit} | {' | '.join(cells)} |")
    return lines


def goals(rows: Sequence[Row]) -> list[str]:
    """What was asked and what it came to, as a table in Markdown."""
    lines = ["| what | of | goal | is | met |", "|---|---|---|---|---|"]
    for row in rows:
        for check in row.checks:
            met = "yes" if check.met else "**no**"
            lines.append(f"| {row.what} | {check.what} | {check.goal} | {number(check.value)} | {met} |")
    return lines
