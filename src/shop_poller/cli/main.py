"""The command line: the table of commands, and the commands that only call another module.

Modules that only one command needs are imported in that command: the daemon would keep them in memory.
"""

import json
import os
import signal
import sys
from contextlib import aclosing, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from shop_poller import __version__
from shop_poller.cli.command_group import CommandGroup
from shop_poller.cli.console import (
    COMPLETE_VARIABLE,
    CUT_SHORT,
    AsJson,
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
    make_app,
    refused,
    say,
    say_lines,
    set_up_output,
    standard_output,
    utc,
)
from shop_poller.cli.language import language, locale_of, use_language
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import choose
from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.known_lines import known
from shop_poller.core.messages import Locale
from shop_poller.core.translatable import Text
from shop_poller.runtime.signals import run_until_signal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from shop_poller.cli.check_result import CheckResult
    from shop_poller.config.shops import ShopsConfig
    from shop_poller.polling.plan import TickReport


COMMANDS = {
    "setup": "setup",
    "run": "main",
    "check": "main",
    "notify-test": "main",
    "preview": "preview",
    "status": "main",
    "audit": "main",
    "backfill": "main",
    "replay": "replay",
    "mute": "mutes",
    "unmute": "mutes",
    "mutes": "mutes",
    "backup": "backup",
    "restore": "restore",
    "demo": "main",
    "install-service": "service",
    "as-service": "service",
    "healthy": "service",
    "completion": "service",
    "dead": "dead_letters",
    "deliveries": "deliveries",
    "poll": "poll",
    "shops": "shops",
    "state": "state",
}
"""The commands in the order of the help, and the module of this package that declares each."""


class _TopLevelCommands(CommandGroup):
    modules = COMMANDS


app = make_app(
    cls=_TopLevelCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Watches WooCommerce shops and sends notifications about their orders.",
    epilog="Settings come from the environment, .env and --config: docs/configuration.md lists them.",
)

WATCH_EVERY_S = 2.0
CLEAR = "\x1b[H\x1b[2J"
"""Clears a terminal."""


def main() -> None:
    """Run the command line. An error that a user can cause is printed as one line, with an exit code."""
    set_up_output()
    use_language(locale_of(os.environ))
    if COMPLETE_VARIABLE in os.environ:
        # Typer registers its shells only with its own completion options, which slow down every start.
        from typer.completion import get_completion_inspect_parameters  # noqa: PLC0415 - see the docstring

        get_completion_inspect_parameters()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # since __main__.main; `nohup` and & ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    except SettingsError as error:
        _complain_of_settings(error)
        sys.exit(Exit.SETTINGS)
    except ShopPollerError as error:
        complain(error.text)
        sys.exit(Exit.STATE if error.kind is ErrorKind.STORE else Exit.SHOP)
    except EnoughError:
        is_list = not {"--help", "--version"}.isdisjoint(sys.argv)
        sys.exit(Exit.OK if is_list else CUT_SHORT)
    except OutputError as error:
        complain(Text("cannot print: {error}", error=known(str(error))))
        sys.exit(Exit.UNDELIVERED)
    finally:
        if "shop_poller.observability.logging" in sys.modules:  # it is large; `--version` does not log
            import_module("shop_poller.observability.logging").finish_log()
        try:
            sys.stderr.flush()
        except OSError:  # a log that cannot be written does not change the exit code
            discard(sys.stderr)


def _complain_of_settings(error: SettingsError) -> None:
    """Print the problems of settings, in the language that the settings name."""
    if error.locale is not None:
        use_language(error.locale)
    for problem in error.problems:
        complain(problem)


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
Exit codes: 2 settings, 5 state file; with --once also 3 the shop could not be read,
4 something was not delivered."""
)
def run(
    config: Config = None,
    once: Annotated[bool, typer.Option("--once", help="Poll once, deliver, print a summary, exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --once: print what would be sent; change nothing.")
    ] = False,
    shop: ShopId = None,
) -> None:
    """Watch the shop, or all shops, until SIGTERM, SIGHUP or Ctrl-C."""
    if dry_run and not once:
        raise typer.BadParameter(Text("needs --once"), param_hint="--dry-run")
    shops_config = load_shops_config(config)

    if not once:
        from shop_poller.observability.logging import log_in_background  # noqa: PLC0415
        from shop_poller.runtime.app import run as run_daemon  # noqa: PLC0415 - see the module's docstring

        if shop is not None:
            raise typer.BadParameter(Text("needs --once"), param_hint="--shop")
        log_in_background()
        anyio.run(partial(run_daemon, shops_config), backend_options={"use_uvloop": _has_uvloop()})
        return
    chosen = _checked(shops_config, shop)
    if dry_run:
        _rehearse(chosen)
    else:
        _run_once(chosen)


def _checked(shops_config: "ShopsConfig", shop: str | None) -> Settings:
    """Return the settings of one shop, after a check of the templates of all.

    Raises:
        SettingsError: there is no such shop, or a template is wrong.
    """
    from shop_poller.runtime.message_templates import check_templates  # noqa: PLC0415 - see the module's docstring

    chosen = choose(shops_config.shops, shop)
    check_templates(shops_config.shops)
    return chosen


def _has_uvloop() -> bool:
    """Return whether the extra `fast` is installed. Only the daemon runs long enough to use it."""
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
        say(Text("polling is off (SHOP_POLLING_ENABLED=false)"))
    elif tick.error is None:
        say(_read(tick))
    else:
        complain(Text("the shop could not be read: {error}", error=tick.error.text))
    if report.in_quiet_hours:
        say(
            Text(
                "quiet hours: {in_quiet_hours} of those that wait are sent when they end",
                in_quiet_hours=report.in_quiet_hours,
            )
        )
    say(
        Text(
            "delivered {delivered}, waiting {waiting}, failed {failed}",
            delivered=report.delivered,
            waiting=report.waiting,
            failed=report.dead_lettered,
        )
    )
    if tick.error is not None:
        raise typer.Exit(Exit.STATE if tick.error.kind is ErrorKind.STORE else Exit.SHOP)
    if report.waiting > report.in_quiet_hours or report.dead_lettered:
        raise typer.Exit(Exit.UNDELIVERED)


def _read(tick: "TickReport") -> Text:
    return Text(
        "read {orders} orders, imported {imported}, found {events} events",
        orders=tick.orders,
        imported=tick.imported,
        events=tick.events,
    )


def _rehearse(settings: Settings) -> None:
    from shop_poller.ports import NewDelivery  # noqa: PLC0415
    from shop_poller.runtime import once  # noqa: PLC0415 - see the module's docstring

    def show(new_deliveries: NewDelivery) -> None:
        say(Text("would send to {sink}: {body}", sink=new_deliveries.sink, body=new_deliveries.body))

    tick = run_until_signal(partial(once.rehearse, settings, show))
    if tick.error is not None:
        code = Exit.STATE if tick.error.kind is ErrorKind.STORE else Exit.SHOP
        raise refused(Text("the shop could not be read: {error}", error=tick.error.text), code)
    say(Text("{read}; changed nothing", read=_read(tick)))


@app.command(
    epilog="""\b
Example:
  shop-poller check
Exit codes: 2 settings, 3 shop, 4 a sink, 5 state file."""
)
def check(config: Config = None, shop: ShopId = None) -> None:
    """Check shop, keys, clocks, state and sinks; change nothing."""
    from shop_poller.cli import check as checks  # noqa: PLC0415 - see the module's docstring

    shops_config = load_shops_config(config)
    _report(checks.check(_checked(shops_config, shop), shops_config.files, shops_config.ignored))


@app.command(
    "notify-test",
    epilog="""\b
Example:
  shop-poller notify-test
Exit codes: 2 settings, 4 a sink did not accept it.""",
)
def notify_test(config: Config = None, shop: ShopId = None) -> None:
    """Send one test notification to every sink."""
    from shop_poller.cli import check as checks  # noqa: PLC0415 - see the module's docstring

    shops_config = load_shops_config(config, needs_shop_keys=False)
    _report(checks.notify_test(_checked(shops_config, shop)))


def _report(findings: "AsyncGenerator[CheckResult]") -> None:
    """Print results as they arrive. The exit code is that of the first problem."""
    codes = {"shop": Exit.SHOP, "state": Exit.STATE, "sink": Exit.UNDELIVERED}
    failed: list[Exit] = []

    async def show() -> None:
        # Closed here, as in `audit`: it may end in the middle.
        async with aclosing(findings):
            async for finding in findings:
                if finding.ok:
                    say(Text("ok    {finding}", finding=finding.line()))
                else:
                    say(Text("FAIL  {finding}", finding=finding.line()))
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
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Update every 2 s, until Ctrl-C.")] = False,
) -> None:
    """Show the state of polling and deliveries; the daemon may be running."""
    from shop_poller.cli import status as statuses  # noqa: PLC0415 - see the module's docstring
    from shop_poller.clock import now  # noqa: PLC0415

    if watch and as_json:
        raise typer.BadParameter(Text("does not go with --json"), param_hint="--watch")
    settings = load_settings(config, shop, needs_shop_keys=False)
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
        except TemporaryError as error:  # the next read may succeed
            lines = [error.text]
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
6 something was missed, or could not be checked."""
)
def audit(
    since: Since,
    config: Config = None,
    shop: ShopId = None,
    as_json: AsJson = False,
) -> None:
    """Compare every order changed since DATE with what was announced; the daemon may be running."""
    from shop_poller.cli import audit as audits  # noqa: PLC0415 - see the module's docstring
    from shop_poller.cli import audit_report as reports  # noqa: PLC0415

    settings, tally = load_settings(config, shop), reports.Tally()

    async def show() -> None:
        # Closed here: it ends in the middle when the reader of standard output (`head`) closes it.
        async with aclosing(audits.audit(settings, utc(since), tally)) as entries:
            async for entry in entries:
                for line in [json.dumps(reports.as_dict(entry))] if as_json else reports.lines(entry):
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
Exit codes: 2 settings, 3 the shop could not be read (run it again to resume), 5 state."""
)
def backfill(since: Since, config: Config = None, shop: ShopId = None) -> None:
    """Import orders created from DATE up to the first poll, silently; the daemon may be running."""
    from shop_poller.cli import backfill as backfills  # noqa: PLC0415 - see the module's docstring

    settings = load_settings(config, shop)
    with backfills.progress_bar() as show:
        done = run_until_signal(partial(backfills.backfill, settings, utc(since), show))
    say(
        Text(
            "read {orders:,} orders, imported {imported:,} new ones",
            orders=done.orders,
            imported=done.imported,
        )
    )


@app.command(
    epilog="""\b
Example:
  shop-poller demo --seconds 20"""
)
def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop after this many seconds.")] = None,
    locale: Annotated[
        Locale | None,
        typer.Option(help="Language of the texts; default: SHOP_LOCALE, else LANG."),
    ] = None,
) -> None:
    """Run the daemon on a simulated shop. Needs no settings."""
    from shop_poller.cli import env_file  # noqa: PLC0415 - see the module's docstring
    from shop_poller.cli.demo import demo as play  # noqa: PLC0415
    from shop_poller.observability.logging import log_in_background, set_up_logging  # noqa: PLC0415

    with suppress(OSError, ValueError):  # a file that cannot be read stops no demo
        _, values = env_file.read(Path(".env"))
        use_language(locale_of(os.environ, values.get("shop_locale", "")))
    if locale is not None:
        use_language(locale)
    set_up_logging(level="warning", style=None)
    log_in_background()
    failure = anyio.run(lambda: play(locale=language(), seconds=seconds))
    if failure is not None:
        with suppress(EnoughError):
            raise standard_output().failed(failure)
