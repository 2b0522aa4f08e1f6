"""The output of `--help` in another language than English; English never imports this module.

The help is translated paragraph by paragraph: the English text is the key in the catalogue. Commands and
options are copied, so that the originals stay English.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any

import typer

from shop_poller.cli.language import language
from shop_poller.locales import catalogue

Translate = Callable[[str], str]
VERBATIM = "\b"
"""The first line of a paragraph that is not wrapped."""
TYPE = re.compile(r"<[a-z \[\]]+>")
EXTRA = re.compile(r"(?:(?P<text>.+?)  )?\[(?P<extra>[^]]+)\]", re.DOTALL)
"""The help of an option with what typer adds: the default, the range, whether it is required."""
EPILOG_WIDTH = 76


def paragraph_in_language(text: str) -> str:
    """Return a paragraph of the help, which is no Text, in the language in use."""
    if language() == "en":
        return text
    found = catalogue(language()).lines.get(text, text)
    return found if isinstance(found, str) else text


def help_page(context: typer.Context, translate: Translate = paragraph_in_language) -> str:
    """Return the help of a command.

    Args:
        context: of the command.
        translate: returns a text in another language.
    """
    context.formatter_class = partial(_Formatter, translate)  # type: ignore[assignment] # it makes one
    found: str = _translated(context.command, context, translate).get_help(context)
    return found


def usage_line(context: typer.Context, translate: Translate = paragraph_in_language) -> str:
    """Return the line that begins a usage error; the arguments are as for `help_page`."""
    context.formatter_class = partial(_Formatter, translate)  # type: ignore[assignment] # as above
    found: str = _translated(context.command, context, translate).get_usage(context)
    return found


FORMATTER: Any = typer.Context.formatter_class
"""The class that typer formats help with; it does not export it."""


class _Formatter(FORMATTER):  # type: ignore[misc] # as above
    """Writes the words that click and typer add.

    Args:
        translate: returns a text in another language.
    """

    def __init__(self, translate: Translate, **options: Any) -> None:
        super().__init__(**options)
        self._translate = translate

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix or self._translate("Usage: "))

    def write_heading(self, heading: str) -> None:
        super().write_heading(self._translate(heading))

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        translated = [
            (TYPE.sub(lambda found: self._translate(found[0]), first), self._with_extra(second))
            for first, second in rows
        ]
        super().write_dl(translated, col_max, col_spacing)

    def _with_extra(self, text: str) -> str:
        if text == HELP_OPTION:
            return self._translate(text)
        found = EXTRA.fullmatch(text)
        if found is None:
            return text
        extra = [self._one_extra(one) for one in found["extra"].split("; ")]
        return f"{found['text'] or ''}  [{'; '.join(extra)}]".strip()

    def _one_extra(self, extra: str) -> str:
        name, colon, value = extra.partition(": ")
        if colon:
            return f"{self._translate(name)}: {value}"
        return self._translate(extra) if extra.isalpha() else extra


HELP_OPTION = "Show this message and exit."
"""The help of `--help`, which click makes after the command was copied."""


def _translated(command: Any, context: typer.Context, translate: Translate) -> Any:
    """Return a copy of a command, and of what it contains, with texts in another language."""
    copied = copy(command)
    copied.help = _paragraphs(command.help, translate)
    copied.short_help = _paragraphs(command.short_help, translate)
    copied.epilog = _paragraphs(command.epilog, translate)
    copied.options_metavar = translate(command.options_metavar)
    copied.params = [_translated_option(option, translate) for option in command.params]
    if hasattr(command, "commands"):
        copied.subcommand_metavar = translate(command.subcommand_metavar)
        names = command.list_commands(context)
        copied.commands = {
            name: _translated(command.get_command(context, name), context, translate) for name in names
        }
    return copied


def _translated_option(option: Any, translate: Translate) -> Any:
    copied = copy(option)
    copied.help = _paragraphs(getattr(option, "help", None), translate)
    copied.metavar = translate(option.metavar) if option.metavar else option.metavar
    return copied


def _paragraphs(text: str | None, translate: Translate) -> str | None:
    if not text:
        return text
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(
        _verbatim(one, translate) if one.startswith(VERBATIM) else translate(" ".join(one.split()))
        for one in paragraphs
    )


def _verbatim(paragraph: str, translate: Translate) -> str:
    """Translate a paragraph of examples, which are indented, and of lines that belong together."""
    written, rest = [VERBATIM], list[str]()
    for line in paragraph.split("\n")[1:]:
        if line.startswith(" "):
            written.append(line)
        elif line.endswith(":") and not rest:
            written.append(translate(line))
        else:
            rest.append(line)
    if rest:
        written += textwrap.wrap(translate(" ".join(rest)), EPILOG_WIDTH)
    return "\n".join(written)
