"""The command line: the table of commands, and the commands that only call another module.

Modules that only one command needs are imported in that command: the daemon would keep them in memory.
"""

import os
import signal
import sys
from contextlib import suppress
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
    Config,
    EnoughError,
    Exit,
    OutputError,
    ShopId,
    complain,
    discard,
    load_shops_config,
    make_app,
    refused,
    say,
    set_up_output,
    standard_output,
)
from shop_poller.cli.language import language, locale_of, use_language
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import choose
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.known_lines import known
from shop_poller.core.messages import Locale
from shop_poller.core.translatable import Text
from shop_poller.runtime.signals import run_until_signal

if TYPE_CHECKING:
    from shop_poller.config.shops import ShopsConfig
    from shop_poller.polling.plan import TickReport


COMMANDS = {
    "setup": "setup",
    "run": "main",
    "check": "check_command",
    "notify-test": "check_command",
    "preview": "preview",
    "status": "status_command",
    "audit": "audit_command",
    "backfill": "backfill_command",
    "replay": "replay_command",
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
