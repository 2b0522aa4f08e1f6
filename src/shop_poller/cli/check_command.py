"""The commands `check` and `notify-test`, for one shop or several."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
import typer

from shop_poller.cli.check import check as check_shop
from shop_poller.cli.check import ignored_variables
from shop_poller.cli.check import notify_test as test_sinks
from shop_poller.cli.check_result import CheckResult
from shop_poller.cli.chosen_shops import ChosenShops, EveryShop, ShopIds, ShopTags, load_chosen
from shop_poller.cli.console import AsDocument, Config, Exit, make_app, say
from shop_poller.cli.each_shop import AT_ONCE as USUAL
from shop_poller.cli.each_shop import (
    ShopOutcome,
    as_document,
    column,
    exit_with_worst,
    finish,
    run_each,
    say_document,
)
from shop_poller.config.settings import Settings
from shop_poller.config.shops import shared_addresses
from shop_poller.core.translatable import Text, joined
from shop_poller.runtime.exposure import exposed
from shop_poller.runtime.exposure import summary as summary_of_exposed
from shop_poller.runtime.message_templates import check_templates

CODES = {"settings": Exit.SETTINGS, "shop": Exit.SHOP, "state": Exit.STATE, "sink": Exit.UNDELIVERED}

Findings = Sequence[CheckResult]
ShopLines = Callable[[str, Findings], Sequence[str]]
"""Returns the lines about a shop, from its id and what was found."""

ShopChecks = Callable[[Settings], AsyncGenerator[CheckResult]]

AT_ONCE = 50
"""How many shops are checked at the same time: mostly their different servers are waited for."""

app = make_app()


@app.command(
    epilog="""\b
Examples:
  shop-poller check
  shop-poller check --all
Exit codes: 2 settings, 3 shop, 4 a sink, 5 state file; the lowest of several shops."""
)
def check(
    *,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    as_json: AsDocument = False,
) -> None:
    """Check shop, keys, clocks, state and sinks; change nothing."""
    chosen = load_chosen(config, shop, tag, all_shops=all_shops, needs_shop_keys=True)
    if chosen.is_list:
        check_each(chosen, check_shop, None if as_json else _lines_of(chosen))
    else:
        check_templates(chosen.shops_config.shops)
        about = chosen.shops_config
        _report(chosen.only, check_shop(chosen.only, about.files, about.ignored), as_json=as_json)


@app.command(
    "notify-test",
    epilog="""\b
Examples:
  shop-poller notify-test
  shop-poller notify-test --all
Exit codes: 2 settings, 4 a sink did not accept it.""",
)
def notify_test(
    *,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    as_json: AsDocument = False,
) -> None:
    """Send one test notification to every sink."""
    chosen = load_chosen(config, shop, tag, all_shops=all_shops)
    check_templates(chosen.shops_config.shops)
    if chosen.is_list:
        _report_each(chosen, test_sinks, None if as_json else _lines_of(chosen), USUAL)
    else:
        _report(chosen.only, test_sinks(chosen.only), as_json=as_json)


def check_briefly(chosen: ChosenShops, *, as_json: bool) -> None:
    """Check several shops, and print one line for each. Raises what `check_each` raises."""
    check_each(chosen, partial(check_shop, briefly=True), None if as_json else line_of_shop)


def check_each(chosen: ChosenShops, run_checks: ShopChecks, lines: ShopLines | None) -> None:
    """Check several shops, print what was found, and end the command with the worst exit code.

    Args:
        chosen: the shops.
        run_checks: checks one.
        lines: returns the lines of one shop; None for one JSON document.

    Raises:
        typer.Exit: a check failed.
        OutputError: standard output is full or closed.
    """
    check_templates(chosen.shops_config.shops)
    if lines is not None:
        for warning in _common_warnings(chosen):
            say(_marked(warning, warning.line()))
    _report_each(chosen, run_checks, lines, AT_ONCE)


def _common_warnings(chosen: ChosenShops) -> list[CheckResult]:
    """Return what is to be said of the settings of all shops together."""
    config = chosen.shops_config
    said = [ignored_variables(config.ignored)] if config.ignored else []
    said += [Text("warning: {problem}", problem=one) for one in shared_addresses(chosen.shops)]
    warnings = [CheckResult("settings", Text("settings"), text) for text in said]
    for problem in summary_of_exposed(exposed(chosen.shops, config.files)):
        text = Text("warning: {problem}", problem=problem)
        warnings.append(CheckResult("state", Text("permissions"), text))
    return warnings


def line_of_shop(shop: str, findings: Findings) -> list[str]:
    """Return one line about a shop: that it is well, or its problems."""
    wrong = [finding.line() for finding in findings if not finding.ok]
    if not wrong:
        return [Text("ok    {finding}", finding=shop)]
    text = Text("{shop}: {problems}", shop=shop, problems=joined("; ", wrong))
    return [Text("FAIL  {finding}", finding=text)]


def _report_each(chosen: ChosenShops, run_checks: ShopChecks, lines: ShopLines | None, at_once: int) -> None:
    async def found_by(shop: Settings) -> Findings:
        async with aclosing(run_checks(shop)) as findings:
            return [finding async for finding in findings]

    def show(outcome: ShopOutcome[Findings]) -> None:
        if lines is None or outcome.result is None:
            return
        for line in lines(outcome.shop, outcome.result):
            say(line)

    outcomes = run_each(chosen.shops, found_by, show, _worst, at_once)
    if lines is None:
        say_document(as_document(outcomes, _as_dict))
    else:
        finish(outcomes)
    exit_with_worst([outcome.code for outcome in outcomes])


def _report(shop: Settings, findings: AsyncGenerator[CheckResult], *, as_json: bool) -> None:
    """Print results as they arrive. The exit code is that of the first problem."""
    found: list[CheckResult] = []

    async def show() -> None:
        async with aclosing(findings):  # it may end in the middle, as when nobody reads any more
            async for finding in findings:
                found.append(finding)
                if not as_json:
                    say(_marked(finding, finding.line()))

    anyio.run(show)
    if as_json:
        say_document({"shop": shop.shop, **_as_dict(found)})
    if failed := [CODES[finding.part] for finding in found if not finding.ok]:
        raise typer.Exit(failed[0])


def _worst(findings: Findings) -> Exit:
    return min((CODES[finding.part] for finding in findings if not finding.ok), default=Exit.OK)


def _as_dict(findings: Findings) -> dict[str, Any]:
    return {
        "ok": all(finding.ok for finding in findings),
        "findings": [
            {"part": one.part, "about": str(one.about), "text": str(one.text), "ok": one.ok}
            for one in findings
        ],
    }


def _lines_of(chosen: ChosenShops) -> ShopLines:
    """Return a function that returns a line per finding, with the shop in a column."""
    with_shop = column([one.shop for one in chosen.shops])
    return lambda shop, findings: [_marked(one, with_shop(shop, one.line())) for one in findings]


def _marked(finding: CheckResult, line: str) -> str:
    if finding.ok:
        return Text("ok    {finding}", finding=line)
    return Text("FAIL  {finding}", finding=line)
