"""The command `setup`: asks for the shop, its keys and a Telegram bot, tries each, and writes `.env`.

It consists of the parts `setup_*.py`: answers (pure), dialogue, shop, chat. The texts are in locales/.
"""

import errno
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from shop_poller.cli import env_file
from shop_poller.cli.console import (
    PROGRAM,
    Exit,
    make_app,
    on_terminal,
    refused,
    say,
    skip_unneeded_modules,
)
from shop_poller.cli.language import locale_of, use_language
from shop_poller.cli.setup_answers import with_sink
from shop_poller.cli.setup_dialogue import Dialogue
from shop_poller.config.addresses import parse_listen
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.core.messages import Locale

app = make_app()

DOTENV = Path(".env")
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells show SIGINT."""
LISTEN = ("127.0.0.1", 9108)
SINKS = "shop_notify_urls"
LOCALES = frozenset({"ru", "en"})


@app.command(
    epilog="""\b
Examples:
  shop-poller setup
  shop-poller setup --locale en
Exit codes: 2 settings cannot be written, there is no terminal, or the input ended."""
)
def setup(
    locale: Annotated[
        Locale | None, typer.Option(help="Language of the questions; default: SHOP_LOCALE, else LANG.")
    ] = None,
) -> None:
    """Ask for the shop, its keys and a Telegram bot, try them, and write .env."""
    set_up(DOTENV, os.environ, locale=locale)


def set_up(
    dotenv: Path,
    environ: Mapping[str, str],
    *,
    locale: Locale | None = None,
    telegram_api: str | None = None,
) -> None:
    """Run the dialogue.

    Args:
        dotenv: the file to write.
        environ: the environment.
        locale: the language; None detects it.
        telegram_api: the server of the Bot API; only tests name one.

    Raises:
        Exit: it cannot be carried out, or was interrupted.
    """
    try:
        text, present = env_file.read(dotenv)
        problem: OSError | ValueError | None = None
    except (OSError, ValueError) as error:
        text, present, problem = "", {}, error
    dialogue = Dialogue(locale or locale_of(environ, present.get("shop_locale", ""), default="ru"))
    use_language(dialogue.locale)
    if not on_terminal():
        raise refused(dialogue.text("no_terminal"))
    if problem is not None:
        raise refused(dialogue.text("cannot_read", path=dotenv, detail=_reason(problem)))
    if not os.access(dotenv.resolve().parent, os.W_OK):
        raise refused(dialogue.text("cannot_write", path=dotenv.resolve(), detail=os.strerror(errno.EACCES)))
    work = _SetUp(dialogue, dotenv, text, present, environ)
    try:
        work.run(telegram_api)
    except (KeyboardInterrupt, EOFError) as error:
        with suppress(OSError):
            say("")
            dialogue.say("stopped_late" if work.is_written else "stopped", path=dotenv)
        raise typer.Exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else Exit.SETTINGS) from None


class _SetUp:
    """One run of the dialogue.

    Attributes:
        is_written: the file was replaced.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        dotenv: Path,
        text: str,
        present: Mapping[str, str],
        environ: Mapping[str, str],
    ) -> None:
        self.is_written = False
        self._dialogue = dialogue
        self._dotenv = dotenv
        self._text = text
        self._present = present
        self._environ = environ

    def run(self, telegram_api: str | None) -> None:
        """Ask everything, then write.

        Raises:
            Exit: the file cannot be written.
            EOFError: there is no more input.
        """
        skip_unneeded_modules()
        # They import httpx and more, so the first line appears before that.
        self._dialogue.say("title")
        self._dialogue.say("other_language", program=_program())
        from shop_poller.cli.setup_chat import ChatStep  # noqa: PLC0415
        from shop_poller.cli.setup_shop import ShopStep  # noqa: PLC0415
        from shop_poller.cli.setup_telegram import API  # noqa: PLC0415
        from shop_poller.observability.logging import set_up_logging  # noqa: PLC0415
        from shop_poller.sinks.registry import parse_sink  # noqa: PLC0415

        set_up_logging(level="error", style=None)
        values = ShopStep(self._dialogue, self._present, self._listen()).run()
        in_file = self._present.get("shop_locale", "").strip()
        values["shop_locale"] = in_file if in_file in LOCALES else self._dialogue.locale
        tried = {**values, "shop_id": self._present.get("shop_id", "").strip()}
        try:
            settings = Settings.of(tried, parse_sink=parse_sink)
        except ValidationError:  # the last step reports what is wrong in the file
            tried = values
            settings = Settings.of(tried, parse_sink=parse_sink)
        set_up_logging(level="error", style=None, secrets=settings.secrets)
        sink = ChatStep(self._dialogue, tried, api=telegram_api or API).run()
        if sink is not None:
            values[SINKS] = with_sink(self._present, sink)
        self._write(values)
        self._verify(values)

    def _listen(self) -> tuple[str, int]:
        written = self._environ.get("SHOP_HTTP_LISTEN") or self._present.get("shop_http_listen", "")
        with suppress(ValueError):
            return parse_listen(written.strip()) or LISTEN
        return LISTEN

    def _write(self, values: Mapping[str, str]) -> None:
        ask = self._dialogue
        ask.section("step_write")
        text = env_file.with_values(self._text, {name.upper(): value for name, value in values.items()})
        try:
            backup = env_file.save(self._dotenv, text)
        except OSError as error:
            raise refused(ask.text("cannot_write", path=self._dotenv, detail=_reason(error))) from error
        except KeyboardInterrupt:
            self.is_written = env_file.read(self._dotenv)[0] == text
            raise
        self.is_written = True
        ask.say("written", path=self._dotenv.resolve())
        if backup is not None:
            ask.say("backup", path=backup)

    def _verify(self, values: Mapping[str, str]) -> None:
        """Report what keeps the daemon from using these settings, and print the next steps."""
        from shop_poller.config.loader import gather, load  # noqa: PLC0415
        from shop_poller.sinks.registry import parse_sink  # noqa: PLC0415

        ask = self._dialogue
        found: dict[str, Any] = gather(None, environ=self._environ, dotenv=self._dotenv).values
        for name, value in values.items():
            if found.get(name) != value:
                ask.say("overridden", name=name.upper())
        try:
            settings = load(None, environ=self._environ, dotenv=self._dotenv, parse_sink=parse_sink)
        except SettingsError as error:
            for problem in error.problems:
                ask.say("still_wrong", problem=problem)
        else:
            if [sink.name for sink in settings.sinks] == ["console:"]:
                ask.say("console_only")
        ask.say("next_check", program=_program())
        ask.say("next_run", program=_program())


def _program() -> str:
    """Return how this command was called, for the next one."""
    called = sys.argv[0]
    return called if Path(called).name == PROGRAM else PROGRAM


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "UTF-8"
