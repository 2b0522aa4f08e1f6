"""A chart of how many times better than Celery's best: SVG, written by hand."""

import math
from collections.abc import Sequence
from html import escape

from benchmarks.results import OURS, Row

COLOURS = {"plain": "#2b6cb0", "fast": "#2f855a"}
LABEL_W, BAR_W, BAR_H, GAP, TOP = 400, 420, 13, 14, 44
MOST = 1000.0
"""Where the scale, which is logarithmic, ends."""


def chart(rows: Sequence[Row]) -> str:
    """Two bars a row, and a mark where the goal is; rows without a figure of Celery's are left out."""
    parts: list[str] = []
    y = TOP
    for row in rows:
        bars = [(of, ratio) for of in OURS if (ratio := row.ratio(of, "best"))]
        if not bars:
            continue
        middle = y + (len(bars) * BAR_H) / 2 + 4
        parts.append(
            f'<text x="{LABEL_W - 8}" y="{middle:.0f}" text-anchor="end">{escape(_short(row.what))}</text>'
        )
        for of, ratio in bars:
            width = _x(ratio)
            parts.append(
                f'<rect x="{LABEL_W}" y="{y}" width="{width:.1f}" height="{BAR_H - 2}" fill="{COLOURS[of]}"/>'
                f'<text x="{LABEL_W + width + 5:.1f}" y="{y + 10}">{ratio:.1f}×</text>'
            )
            goal = next(
                (c.limit for c in row.checks if c.what == f"{of}: times better than Celery at its best"), 0
            )
            if goal:
                x = LABEL_W + _x(goal)
                parts.append(f'<path d="M{x:.1f} {y - 2}v{BAR_H + 2}" stroke="#c53030" stroke-width="2"/>')
            y += BAR_H
        y += GAP
    return "\n".join([_head(y), *_grid(y), *parts, "</svg>\n"])


def _head(height: int) -> str:
    width = LABEL_W + BAR_W + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
        f' font-size="11">\n<rect width="{width}" height="{height}" fill="#fff"/>\n'
        f'<text x="{LABEL_W}" y="14" font-size="12">times better than the Celery design at its best;'
        ' <tspan fill="#2b6cb0">plain</tspan>, <tspan fill="#2f855a">fast</tspan>,'
        ' <tspan fill="#c53030">goal</tspan></text>'
    )


def _grid(height: int) -> list[str]:
    return [
        f'<path d="M{LABEL_W + _x(at):.1f} {TOP - 8}V{height}" stroke="#ddd"/>'
        f'<text x="{LABEL_W + _x(at):.1f}" y="{TOP - 12}" text-anchor="middle" fill="#777">{at:g}×</text>'
        for at in (1.0, 10.0, 100.0, MOST)
    ]


def _x(ratio: float) -> float:
    return max(1.0, BAR_W * math.log(min(max(ratio, 1.0), MOST)) / math.log(MOST))


def _short(text: str) -> str:
    return text if len(text) <= 62 else text[:60] + "…"
