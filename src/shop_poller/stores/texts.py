"""What both stores write as JSON."""

import json

from shop_poller.clock import instant, ms
from shop_poller.core.sweep import Position, Stage


def position_text(position: Position | None) -> str | None:
    """To store where a sweep stands."""
    if position is None:
        return None
    return json.dumps(
        {
            "stage": position.stage,
            "since": ms(position.since),
            "created_before": ms(position.created_before),
            "after_id": position.after_id,
        }
    )


def position(text: str | None) -> Position | None:
    """To read where a sweep stands."""
    if not text:
        return None
    kept = json.loads(text)
    return Position(
        stage=Stage(kept["stage"]),
        since=instant(kept["since"]),
        created_before=instant(kept["created_before"]),
        after_id=kept["after_id"],
    )
