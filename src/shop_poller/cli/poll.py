"""The command `poll now`: asks the running daemon to poll."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from shop_poller.cli.chosen_shops import EveryShop, ShopIds, ShopTags, load_chosen
from shop_poller.cli.console import AsDocument, Config, Exit, complain, make_app, refused, say
from shop_poller.cli.daemon import NotDoneError, TargetShop, ask_daemon
from shop_poller.cli.each_shop import (
    ShopOutcome,
    as_document,
    exit_with_worst,
    finish,
    run_each,
    say_document,
)
from shop_poller.config.settings import Settings
from shop_poller.core.translatable import Text, joined

app = make_app(name="poll", no_args_is_help=True, help="Make the running daemon poll.")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the daemon replied for a shop.

    Attributes:
        text: for people.
        is_done: whether it polls.
    """

    text: str
    is_done: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return the object of `--json`."""
        return {"polled": self.is_done, "answer": self.text}


@app.callback()
def _poll() -> None:
    """Make typer keep the group, although it has only one command."""


@app.command(
    epilog="""\b
Examples:
  shop-poller poll now
  shop-poller poll now --all
Exit codes: 2 settings, or the daemon has another token; 3 the daemon does not answer or
does not poll."""
)
def now(
    *,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    as_json: AsDocument = False,
) -> None:
    """Make the running daemon poll at once; needs its SHOP_HTTP_LISTEN and SHOP_ADMIN_TOKEN."""
    chosen = load_chosen(config, shop, tag, all_shops=all_shops)
    of_several = len(chosen.shops_config.shops) > 1

    async def ask(settings: Settings) -> Reply:
        try:
            return Reply(await to_thread.run_sync(_ask, TargetShop(settings, of_several), as_json))
        except NotDoneError as error:
            return Reply(error.text, is_done=False)

    outcomes = run_each(chosen.shops, ask, code_of=lambda one: Exit.OK if one.is_done else Exit.SHOP)
    if outcomes[0].problem and len({outcome.problem for outcome in outcomes}) == 1:
        raise refused(outcomes[0].problem, outcomes[0].code)
    if as_json:
        found = as_document(outcomes, Reply.as_dict)
        say_document(found if chosen.is_list else found[0])
    else:
        _show(outcomes, of_several=of_several)
        if chosen.is_list:
            finish(outcomes)
    exit_with_worst([outcome.code for outcome in outcomes])


def _show(outcomes: Sequence[ShopOutcome[Reply]], *, of_several: bool) -> None:
    for outcome in outcomes:
        if outcome.result is None:
            continue  # `finish` names it
        line = joined(": ", [outcome.shop, outcome.result.text]) if of_several else outcome.result.text
        if outcome.result.is_done:
            say(line)
        else:
            complain(line)


def _ask(target: TargetShop, in_english: bool) -> str:  # noqa: FBT001 - for run_sync
    not_done = Text("the daemon did not poll")
    return ask_daemon(target, "poll", {}, not_done=not_done, locale="en" if in_english else None)
