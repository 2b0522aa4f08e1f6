"""Asks questions on a terminal: each answer is checked at once, and asked for again if it is wrong."""

import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import typer

from shop_poller.cli.console import say
from shop_poller.cli.language import in_language
from shop_poller.cli.setup_answers import WrongAnswerError, is_yes, number_in
from shop_poller.core.messages import Locale
from shop_poller.core.plain_text import plain
from shop_poller.locales import setup_texts

T = TypeVar("T")
MAX_LINE = 4096
ECHO = 3
"""The index of the local modes in what tcgetattr returns."""


class Dialogue:
    """Asks in one language.

    Args:
        locale: the language.
    """

    def __init__(self, locale: Locale) -> None:
        self.locale = locale
        self._texts = setup_texts(locale)

    def text(self, key: str, **values: object) -> str:
        """Return a text with its placeholders filled; the values are not templates."""
        text = self._texts[key]
        shown = {
            name: in_language(value) if isinstance(value, str) else value for name, value in values.items()
        }
        return text.format(**shown) if values else text

    def say(self, key: str, **values: object) -> None:
        """Print a text."""
        say(self.text(key, **values))

    def section(self, key: str) -> None:
        """Print the heading of a step."""
        say("")
        self.say(key)

    def ask(self, key: str, check: Callable[[str], T], *, hidden: bool = False, **values: object) -> T:
        """Ask until the answer is right.

        Args:
            key: of the question.
            check: returns the answer's value, or raises WrongAnswerError.
            hidden: the terminal does not show what is typed.
            values: of the placeholders of the question.

        Raises:
            EOFError: there is no more input.
        """
        question = self.text(key, **values)
        while True:
            answer = _hidden_line(question) if hidden else _line(question)
            try:
                return check(answer)
            except WrongAnswerError as error:
                self.say(error.text, **error.values)

    def agrees(self, key: str, *, default: bool = True, **values: object) -> bool:
        """Ask a question that is answered by yes or no; Enter is the default."""
        question = f"{self.text(key, **values)} {self.text('yes_no' if default else 'no_yes')}"
        while True:
            try:
                return is_yes(_line(question), default=default)
            except WrongAnswerError as error:
                self.say(error.text)

    def choose(self, lines: Sequence[str]) -> int:
        """Print numbered lines, and ask for a number; 0 is the last, unnumbered choice."""
        for number, line in enumerate(lines, 1):
            self.say("chat_line", number=number, chat=line)
        self.say("chat_zero")
        return self.ask("ask_number", partial(number_in, most=len(lines)))

    def pause(self, key: str) -> None:
        """Wait for Enter."""
        _line(self.text(key))

    @contextmanager
    def progress(self, key: str, **values: object) -> Iterator[Callable[[], None]]:
        """Print a text, and a dot at each call of what is yielded."""
        typer.echo(plain(self.text(key, **values)), nl=False)
        try:
            yield lambda: typer.echo(".", nl=False)
        finally:
            typer.echo("")


def _line(question: str) -> str:
    typer.echo(f"{plain(question)}: ", nl=False)
    return _read()


def _hidden_line(question: str) -> str:
    """Read a line that the terminal does not show. The question appears once nothing is shown any more."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    silent = [*before]
    silent[ECHO] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    try:
        return _line(question)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        typer.echo("")  # the end of the line was not shown either


def _read() -> str:
    # Bytes: a letter that was half deleted is not UTF-8, and is a wrong answer like any other.
    line = sys.stdin.buffer.readline(MAX_LINE)
    if not line:
        raise EOFError
    return line.decode("utf-8", "replace").rstrip("\r\n")
