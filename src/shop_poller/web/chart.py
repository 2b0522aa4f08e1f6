"""Draws deliveries per hour as a small SVG; its colours come from the page's style."""

from collections.abc import Sequence

from shop_poller.web.markup import Markup, fill, joined

BAR, GAP, HEIGHT, FOOT = 10, 3, 64, 14
LEAST = 2
"""The lowest height of a bar: one delivery beside thousands stays visible."""


def chart(
    delivered: Sequence[int], dead_lettered: Sequence[int], *, title: str, text: str, ends: tuple[str, str]
) -> Markup:
    """Draw one bar per hour: delivered below, failed on top.

    Args:
        delivered: counts of delivered notifications, the earliest first.
        dead_lettered: counts of failed ones, for the same hours.
        title: the title of the picture.
        text: a description for screen readers.
        ends: the labels below the first bar and below the last.
    """
    most = max((sum(pair) for pair in zip(delivered, dead_lettered, strict=True)), default=0) or 1
    bars = []
    for place, (good, bad) in enumerate(zip(delivered, dead_lettered, strict=True)):
        x, low, high = place * (BAR + GAP), _height(good, most), _height(bad, most)
        bars.append(_bar(x, HEIGHT - low, low, "delivered") if good else _bar(x, HEIGHT - 1, 1, "none"))
        if bad:
            bars.append(_bar(x, max(0.0, HEIGHT - low - high), high, "dead-lettered"))
    width = max(1, len(delivered)) * (BAR + GAP) - GAP
    return fill(
        '<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-labelledby="chart-t chart-d">'
        '<title id="chart-t">{title}</title><desc id="chart-d">{text}</desc>{bars}'
        '<text x="0" y="{foot}">{first}</text>'
        '<text x="{width}" y="{foot}" text-anchor="end">{last}</text></svg>',
        width=width,
        height=HEIGHT + FOOT,
        foot=HEIGHT + FOOT - 2,
        title=title,
        text=text,
        bars=joined(bars),
        first=ends[0],
        last=ends[1],
    )


def _height(count: int, most: int) -> float:
    return max(LEAST, count / most * HEIGHT) if count else 0.0


def _bar(x: int, y: float, height: float, what: str) -> Markup:
    return fill(
        '<rect class="{what}" x="{x}" y="{y}" width="{width}" height="{height}" rx="1"/>',
        what=what,
        x=x,
        y=f"{y:.1f}",
        width=BAR,
        height=f"{height:.1f}",
    )
