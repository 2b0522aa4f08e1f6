"""The command `audit`: one shop order by order, or the result of each of several."""

import json
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from shop_poller.cli.audit import audit as audited
from shop_poller.cli.audit_report import Tally, as_dict, lines
from shop_poller.cli.chosen_shops import ChosenShops, EveryShop, ShopIds, ShopTags, load_chosen
from shop_poller.cli.console import AsJson, Config, Exit, Since, make_app, say, utc
from shop_poller.cli.each_shop import (
    ShopOutcome,
    as_document,
    column,
    exit_with_worst,
    run_each,
    say_document,
    summary,
)
from shop_poller.config.settings import Settings
from shop_poller.core.audit import FAULTS, UNDELIVERED, Entry
from shop_poller.core.translatable import Text
from shop_poller.runtime.signals import run_until_signal

MOST_LISTED = 100
"""Orders of one of several shops that are listed."""
NOTABLE = frozenset({*FAULTS, *UNDELIVERED})

app = make_app()


@dataclass(slots=True)
class ShopAudit:
    """The result for one of several shops.

    Attributes:
        tally: its orders.
        notable: those that were missed or not delivered, MOST_LISTED at most.
    """

    tally: Tally = field(default_factory=Tally)
    notable: list[Entry] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the object of `--json`."""
        return {**self.tally.as_dict(), "notable": [as_dict(entry) for entry in self.notable]}


@app.command(
    epilog="""\b
Examples:
  shop-poller audit --since 2026-11-01
  shop-poller audit --since 2026-11-24T18:00:00 --all --json
Exit codes: 2 settings, 3 the shop could not be read, 4 something is undelivered, 5 state,
6 something was missed, or could not be checked. Of several shops the lowest."""
)
def audit(
    *,
    since: Since,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    as_json: AsJson = False,
) -> None:
    """Compare every order changed since DATE with what was announced; the daemon may be running."""
    chosen = load_chosen(config, shop, tag, all_shops=all_shops, needs_shop_keys=True)
    if chosen.is_list:
        _audit_each(chosen, utc(since), as_json=as_json)
        return
    tally = Tally()

    async def show() -> None:
        # Closed here: it ends in the middle when the reader of standard output (`head`) closes it.
        async with aclosing(audited(chosen.only, utc(since), tally)) as entries:
            async for entry in entries:
                for line in [json.dumps(as_dict(entry))] if as_json else lines(entry):
                    say(line)

    run_until_signal(show)
    if as_json:
        say(json.dumps(tally.as_dict()))
    else:
        say(tally.verdict())
    exit_with_worst([_code_of(tally)])


def _code_of(tally: Tally) -> Exit:
    if tally.is_incomplete:
        return Exit.MISSED
    return Exit.UNDELIVERED if tally.undelivered else Exit.OK


def _audit_each(chosen: ChosenShops, since: datetime, *, as_json: bool) -> None:
    outcomes = run_each(
        chosen.shops, partial(_audit_one, since=since), code_of=lambda one: _code_of(one.tally)
    )
    outcomes.sort(key=_rank)
    if as_json:
        say_document(as_document(outcomes, ShopAudit.as_dict))
    else:
        with_shop = column([outcome.shop for outcome in outcomes])
        for outcome in outcomes:
            found = outcome.result
            line = with_shop(outcome.shop, outcome.problem if found is None else found.tally.verdict())
            if outcome.code is Exit.OK:
                say(Text("ok    {finding}", finding=line))
            else:
                say(Text("FAIL  {finding}", finding=line))
            for entry in found.notable if found is not None else ():
                for detail in lines(entry):
                    say(with_shop("", detail))
        orders = sum(len(one.result.tally.standings) for one in outcomes if one.result is not None)
        say(summary(outcomes, Text("{count:,} orders", count=orders)))
    exit_with_worst([outcome.code for outcome in outcomes])


async def _audit_one(settings: Settings, since: datetime) -> ShopAudit:
    found = ShopAudit()
    async with aclosing(audited(settings, since, found.tally)) as entries:
        async for entry in entries:
            if entry.standing in NOTABLE and len(found.notable) < MOST_LISTED:
                found.notable.append(entry)
    return found


def _rank(outcome: ShopOutcome[ShopAudit]) -> tuple[bool, bool, int]:
    """Return what puts the worst shop first: one that could not be read, then the most missed orders."""
    tally = outcome.result.tally if outcome.result is not None else Tally()
    missed = tally.unaccounted + tally.undelivered
    return outcome.result is not None, outcome.code is Exit.OK, -missed
