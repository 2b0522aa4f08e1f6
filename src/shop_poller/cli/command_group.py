"""The commands as typer knows them: imported when used, with help and usage errors in the user's language."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from shop_poller.cli.console import DATES, skip_unneeded_modules
from shop_poller.cli.language import language
from shop_poller.core.masking import SHORT
from shop_poller.core.showing import is_harmless, shown
from shop_poller.core.translatable import Text

NO_DATE = f"does not match the formats {', '.join(map(repr, DATES))}."
"""How typer says that a date is none."""
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""The base class of all usage errors; typer does not export it."""


class HelpContext(typer.Context):
    """The context of a command whose help is shown in the language in use."""

    def get_help(self) -> str:
        """Return the help."""
        if language() == "en":
            return super().get_help()
        from shop_poller.cli.help_page import help_page  # noqa: PLC0415 - English does not need it

        return help_page(self)

    def get_usage(self) -> str:
        """Return the line that begins a usage error."""
        if language() == "en":
            return super().get_usage()
        from shop_poller.cli.help_page import usage_line  # noqa: PLC0415 - English does not need it

        return usage_line(self)


def _with_help(command: Any) -> Any:
    """Let a command, and the commands in it, use HelpContext."""
    command.context_class = HelpContext
    for one in getattr(command, "commands", {}).values():
        _with_help(one)
    return command


class CommandGroup(TyperGroup):
    """The commands, each imported from its module when it is used. Usage errors quote no pasted secret."""

    context_class = HelpContext
    modules: Mapping[str, str]
    """The commands in the order of the help, and the module of this package that declares each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # None until it is imported. All names are present, for the help and for suggestions after a typo.
        declared = {name: _with_help(command) for name, command in self.commands.items()}
        self.commands: Any = {name: declared.get(name) for name in self.modules}

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, or None. Import its module."""
        if cmd_name in self.commands and self.commands[cmd_name] is None:
            skip_unneeded_modules()
            app = import_module(f"shop_poller.cli.{self.modules[cmd_name]}").app
            found: Any = typer.main.get_command(app)
            self.commands[cmd_name] = _with_help(
                found if found.name == cmd_name else found.commands[cmd_name]
            )
        return super().get_command(ctx, cmd_name)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the options of the program itself."""
        with _discreet():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Parse the options of a command, and run it."""
        with _discreet():
            return super().invoke(ctx)


@contextmanager
def _discreet() -> Iterator[None]:
    try:
        yield
    except USAGE_ERROR as error:
        if error.message.endswith(NO_DATE):
            error.message = Text("is no date or time; write it as 2026-11-01 or 2026-11-24T18:00")
        said: str = error.message
        given = {part for argument in sys.argv[1:] for part in (argument, *argument.split("="))}
        for word in sorted(given, key=len, reverse=True):
            if len(word) >= SHORT and word in said and not is_harmless(word.lstrip("-"), is_name=True):
                said = said.replace(repr(word), shown(word)).replace(word, shown(word))
        if said != error.message:
            error.message = said
        if language() == "en":
            raise
        from shop_poller.cli.usage_errors import localized  # noqa: PLC0415 - English does not need it

        raise localized(error) from error
