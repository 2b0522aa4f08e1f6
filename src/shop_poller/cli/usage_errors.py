"""Errors in the command line, in another language than English; English never imports this module.

Click and typer write them in English. Each is compared with the templates of their texts.
"""

from typing import Any

import typer

from shop_poller.cli.command_group import USAGE_ERROR
from shop_poller.cli.language import in_language
from shop_poller.core.plain_text import plain
from shop_poller.core.recognition import pattern_of
from shop_poller.core.translatable import Text

PROBLEM = "problem"
"""The value that is a text of click's or typer's, too."""
TEMPLATES = (
    "Invalid value for {name}: {problem}",
    "Invalid value: {problem}",
    "Missing option {name}.",
    "Missing argument {name}. Choose from:{choices}",
    "Missing argument {name}.",
    "Missing command.",
    "No such command {name}. Did you mean {names}?",
    "No such command {name}.",
    "No such option: {option} (Possible options: {options})",
    "No such option: {option}",
    "Option {option} does not take a value.",
    "Option {option} requires an argument.",
    "Got unexpected extra argument(s) ({arguments})",
    "Value error, {problem}",
    "{value} is not one of {choices}.",
    "Input should be greater than or equal to {least}",
    "Input should be less than or equal to {most}",
    "Input should be a valid number, unable to parse string as a number",
    "Input should be a valid integer, unable to parse string as an integer",
)
"""The texts of click, typer and pydantic; the first that fits is used."""


class LocalizedUsageError(USAGE_ERROR):  # type: ignore[misc] # see USAGE_ERROR
    """A usage error that is shown in the language in use.

    Args:
        error: as click made it.
    """

    def __init__(self, error: Any) -> None:
        super().__init__(error.message, error.ctx)
        self._error = error

    def show(self, file: Any = None) -> None:
        """Print it as click does."""
        if self.ctx is not None:
            command, option = self.ctx.command_path, self.ctx.help_option_names[0]
            advice = Text("Try '{command} {option}' for help.", command=command, option=option)
            typer.echo(f"{self.ctx.get_usage()}\n{in_language(advice)}\n", file=file, err=True)
        problem = Text("Error: {problem}", problem=described(self._error))
        typer.echo(plain(in_language(problem)), file=file, err=True)


def localized(error: Any) -> Any:
    """Return a usage error that is shown in the language in use; the help of a group is in it already."""
    return LocalizedUsageError(error) if type(error).show is USAGE_ERROR.show else error


def described(error: Any) -> str:
    """Return the text of a usage error, which can be translated."""
    return _recognized(error.format_message(), error.message)


def _recognized(text: str, own: str) -> str:
    """Return a text as a Text.

    Args:
        text: in English.
        own: the part of it that may be a Text of ours.
    """
    if text == own and isinstance(own, Text):
        return own
    for template in TEMPLATES:
        found = pattern_of(template).fullmatch(text)
        if found is not None:
            values = found.groupdict()
            if PROBLEM in values:
                values[PROBLEM] = _recognized(values[PROBLEM], own)
            return Text(template, **values)
    return text
