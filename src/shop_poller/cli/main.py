"""The command line. What only one command needs is imported in it: the daemon idles most of its life."""

import json
import signal
import sys
from contextlib import aclosing, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from shop_poller import __version__
from shop_poller.cli import backup_commands, replay_command
from shop_poller.cli import service as service_commands
from shop_poller.cli.console import (
    CUT_SHORT,
    Commands,
    Config,
    EnoughError,
    Exit,
    OutputError,
    ShopId,
    Since,
    complain,
    discard,
    load_settings,
    load_shops_config,
    say,
    say_lines,
    set_up_output,
    standard_output,
    utc,
)
from shop_poller.cli.dead_letter_commands import dead, deliveries
from shop_poller.cli.poll import poll
from shop_poller.cli.shops import shops
from shop_poller.cli.state import state
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import choose
from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.messages import Locale
from shop_poller.runtime.signals import run_until_signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shop_poller.cli.check import CheckResult


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Watches a WooCommerce shop and tells people what happened to their orders.",
    epilog="Settings come from the environment, .env and --config: docs/configuration.md lists them.",
)

app.add_typer(dead, name="dead")
app.add_typer(deliveries, name="deliveries")
app.add_typer(poll, name="poll")
app.add_typer(shops, name="shops")
app.add_typer(state, name="state")

WATCH_EVERY_S = 2.0
CLEAR = "\x1b[H\x1b[2J"
"""Tells a terminal to begin anew at its top."""


def main() -> None:
    """Run the command line. An error that a user can cause is one line each, and an exit code."""
    set_up_output()
    service_commands.answer_completion()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # since __main__.main; `nohup` and & ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    except SettingsError as error:
        for problem in error.problems:
            complain(problem)
        sys.exit(Exit.SETTINGS)
    except ShopPollerError as error:
        complain(str(error))
        sys.exit(Exit.STATE if error.kind is ErrorKind.STORE else Exit.SHOP)
    except EnoughError:
        is_list = not {"--help", "--version"}.isdisjoint(sys.argv)
        sys.exit(Exit.OK if is_list else CUT_SHORT)
    except OutputError as error:
        complain(f"cannot print: {error}")
        sys.exit(Exit.UNDELIVERED)
    finally:
        if "shop_poller.observability.logging" in sys.modules:  # it is large, and `--version` has no log
            import_module("shop_poller.observability.logging").finish_log()
        try:
            sys.stderr.flush()
        except OSError:  # a log that could not be written is no reason for an exit code of its own
            discard(sys.stderr)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        say(f"shop-poller {__version__}")
        raise typer.Exit


@app.command(
    epilog="""\b
Examples:
  shop-poller run
  shop-poller run --once --dry-run
Exit codes: 2 settings, 5 state file; of --once also 3 the shop could not be read,
4 something stayed undelivered."""
)
def run(
    config: Config = None,
    once: Annotated[bool, typer.Option("--once", help="One tick, deliver, say what was done, exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --once: print what would be sent; change nothing.")
    ] = False,
    shop: ShopId = None,
) -> None:
    """Watch the shop, or all of several, until SIGTERM, SIGHUP or Ctrl-C."""
    if dry_run and not once:
        raise typer.BadParameter("goes with --once", param_hint="--dry-run")
    shops_config = load_shops_config(config)

    if not once:
        from shop_poller.observability.logging import log_in_background  # noqa: PLC0415
        from shop_poller.runtime import app as daemon  # noqa: PLC0415 - see the module's docstring

        if shop is not None:
            raise typer.BadParameter("goes with --once", param_hint="--shop")
        log_in_background()
        anyio.run(partial(daemon.run, shops_config), backend_options={"use_uvloop": _has_uvloop()})
    elif dry_run:
        _rehearse(choose(shops_config.shops, shop))
    else:
        _run_once(choose(shops_config.shops, shop))


def _has_uvloop() -> bool:
    """It comes with the extra `fast`. Only the daemon lives long enough to be worth importing it."""
    try:
        import_module("uvloop")
    except ImportError:
        return False
    return True


def _run_once(settings: Settings) -> None:
    from shop_poller.runtime import once  # noqa: PLC0415 - see the module's docstring

    report = run_until_signal(partial(once.run_once, settings))
    tick = report.tick
    if not settings.shop_polling_enabled:
        say("asked nothing: polling is off (SHOP_POLLING_ENABLED=false)")
    elif tick.error is None:
        say(f"read {tick.orders} orders, learned {tick.imported}, decided {tick.events} events")
    else:
        complain(f"the shop could not be read: {tick.error}")
    say(f"delivered {report.delivered}, waiting {report.waiting}, given up {report.dead_lettered}")
    if tick.error is not None:
        raise typer.Exit(Exit.STATE if tick.error.kind is ErrorKind.STORE else Exit.SHOP)
    if report.waiting or report.dead_lettered:
        raise typer.Exit(Exit.UNDELIVERED)


def _rehearse(settings: Settings) -> None:
    from shop_poller.ports import NewDelivery  # noqa: PLC0415
    from shop_poller.runtime import once  # noqa: PLC0415 - see the module's docstring

    def show(new_deliveries: NewDelivery) -> None:
        say(f"would send to {new_deliveries.sink}: {new_deliveries.body}")

    tick = run_until_signal(partial(once.rehearse, settings, show))
    if tick.error is not None:
        complain(f"the shop could not be read: {tick.error}")
        raise typer.Exit(Exit.STATE if tick.error.kind is ErrorKind.STORE else Exit.SHOP)
    say(f"read {tick.orders} orders, learned {tick.imported}, decided {tick.events} events; changed nothing")


@app.command(
    epilog="""\b
Example:
  shop-poller check
Exit codes: 2 settings, 3 shop, 4 a sink, 5 state file."""
)
def check(config: Config = None, shop: ShopId = None) -> None:
    """Look whether shop, keys, clocks, state and sinks are right; change nothing."""
    from shop_poller.cli import check as checks  # noqa: PLC0415 - see the module's docstring

    shops_config = load_shops_config(config)
    _report(checks.check(choose(shops_config.shops, shop), shops_config.files))


@app.command(
    "notify-test",
    epilog="""\b
Example:
  shop-poller notify-test
Exit codes: 2 settings, 4 a sink did not take it.""",
)
def notify_test(config: Config = None, shop: ShopId = None) -> None:
    """Send one harmless notification to every sink."""
    from shop_poller.cli import check as checks  # noqa: PLC0415 - see the module's docstring

    _report(checks.notify_test(load_settings(config, shop, asks_shop=False)))


def _report(findings: "AsyncIterator[CheckResult]") -> None:
    """Print findings as they come; the exit code is that of the first that is not well."""
    codes = {"shop": Exit.SHOP, "state": Exit.STATE, "sink": Exit.UNDELIVERED}
    failed: list[Exit] = []

    async def show() -> None:
        async for finding in findings:
            say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.about}: {finding.text}")
            if not finding.ok:
                failed.append(codes[finding.part])

    anyio.run(show)
    if failed:
        raise typer.Exit(failed[0])


@app.command(
    epilog="""\b
Examples:
  shop-poller status
  shop-poller status --json
  shop-poller status --watch
Exit codes: 2 settings, 5 state file."""
)
def status(
    config: Config = None,
    shop: ShopId = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s, until Ctrl-C.")] = False,
) -> None:
    """Say where polling and deliveries stand; the daemon may be running."""
    from shop_poller.cli import status as statuses  # noqa: PLC0415 - see the module's docstring
    from shop_poller.clock import now  # noqa: PLC0415

    if watch and as_json:
        raise typer.BadParameter("goes without --json", param_hint="--watch")
    settings = load_settings(config, shop, asks_shop=False)
    if watch:
        with suppress(KeyboardInterrupt, EnoughError):
            anyio.run(_watch, settings)
        return
    found = anyio.run(statuses.read_status, settings)
    with suppress(EnoughError):
        if as_json:
            say_lines(json.dumps(found.as_dict(), ensure_ascii=False, indent=2))
            return
        for line in statuses.render(found, found.now or now()):
            say(line)


async def _watch(settings: Settings) -> None:
    from shop_poller.cli import status as statuses  # noqa: PLC0415 - see the module's docstring
    from shop_poller.clock import now  # noqa: PLC0415

    while True:
        try:
            found = await statuses.read_status(settings)
            lines = statuses.render(found, found.now or now())
        except TemporaryError as error:  # it may be readable again at the next look
            lines = [str(error)]
        if sys.stdout.isatty():
            typer.echo(CLEAR, nl=False)
        for line in (*lines, ""):
            say(line)
        await anyio.sleep(WATCH_EVERY_S)


@app.command(
    epilog="""\b
Examples:
  shop-poller audit --since 2026-11-01
  shop-poller audit --since 2026-11-24T18:00:00 --json
Exit codes: 2 settings, 3 the shop could not be read, 4 something is undelivered, 5 state,
6 something was missed, or could not be read."""
)
def audit(
    since: Since,
    config: Config = None,
    shop: ShopId = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a line an order.")] = False,
) -> None:
    """Hold every order changed since then against what was announced; the daemon may be running."""
    from shop_poller.cli import audit as audits  # noqa: PLC0415 - see the module's docstring

    settings, tally = load_settings(config, shop), audits.Tally()

    async def show() -> None:
        # Closed here: a reader of ours that has enough (`head`) ends it in the middle.
        async with aclosing(audits.audit(settings, utc(since), tally)) as entries:
            async for entry in entries:
                for line in [json.dumps(audits.as_dict(entry))] if as_json else audits.lines(entry):
                    say(line)

    run_until_signal(show)
    if as_json:
        say(json.dumps(tally.as_dict()))
    else:
        say(tally.verdict())
    if tally.is_incomplete:
        raise typer.Exit(Exit.MISSED)
    if tally.undelivered:
        raise typer.Exit(Exit.UNDELIVERED)


@app.command(
    epilog="""\b
Example:
  shop-poller backfill --since 2026-01-01
Exit codes: 2 settings, 3 the shop could not be read (run it again to go on), 5 state."""
)
def backfill(since: Since, config: Config = None, shop: ShopId = None) -> None:
    """Learn silently the orders made from then on and before the watch began; the daemon may be running."""
    from shop_poller.cli import backfill as backfills  # noqa: PLC0415 - see the module's docstring

    settings = load_settings(config, shop)
    with backfills.progress_bar() as show:
        done = run_until_signal(partial(backfills.backfill, settings, utc(since), show))
    say(f"read {done.orders:,} orders; {done.imported:,} were not known and are learned now")


app.command(epilog=replay_command.EPILOG)(replay_command.replay)
app.command(epilog=backup_commands.BACKUP_EPILOG)(backup_commands.backup)
app.command(epilog=backup_commands.RESTORE_EPILOG)(backup_commands.restore)


@app.command(
    epilog="""\b
Example:
  shop-poller demo --seconds 20"""
)
def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="End after so many seconds.")] = None,
    locale: Annotated[Locale, typer.Option(help="Language of the notifications.")] = "ru",
) -> None:
    """Show it: a simulated shop and the real daemon. Needs no settings."""
    from shop_poller.cli.demo import demo as play  # noqa: PLC0415 - see the module's docstring
    from shop_poller.observability.logging import log_in_background, set_up_logging  # noqa: PLC0415

    set_up_logging(level="warning", style=None)
    log_in_background()
    failure = anyio.run(lambda: play(locale=locale, seconds=seconds))
    if failure is not None:
        with suppress(EnoughError):
            raise standard_output().failed(failure)


app.command("install-service", epilog=service_commands.INSTALL_EPILOG)(service_commands.install_service)
app.command(
    "as-service",
    epilog=service_commands.AS_SERVICE_EPILOG,
    # What follows the command's name belongs to that command.
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(service_commands.as_service)
app.command("healthy", epilog=service_commands.HEALTHY_EPILOG)(service_commands.healthy)
app.command("completion", epilog=service_commands.COMPLETION_EPILOG)(service_commands.completion)
