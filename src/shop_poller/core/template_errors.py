"""What is wrong with a template: which one, in which line, and why. Pure."""

from collections.abc import Collection
from difflib import get_close_matches

from jinja2 import TemplateError, TemplateSyntaxError

from shop_poller.core.errors import text_of
from shop_poller.core.translatable import Text


class BadTemplateError(Exception):
    """A template cannot be used, or its rendering failed.

    Attributes:
        name: of the template.
        line: in it; 0 if it is not known.
        problem: what is wrong; after a rendering it may quote values.
        kind: the same without values, for a log.
    """

    def __init__(self, name: str, line: int, problem: str, kind: str = "") -> None:
        super().__init__(
            Text("{name}, line {line}: {problem}", name=name, line=line, problem=problem)
            if line
            else Text("{name}: {problem}", name=name, problem=problem)
        )
        self.name = name
        self.line = line
        self.problem = problem
        self.kind = kind or problem


class TemplateRefusedError(TemplateError):
    """A template does what is not allowed. The text quotes no value."""


def unknown(what: Text, name: str, known: Collection[str]) -> Text:
    """Return that there is no such thing, with the nearest known name, or all of them.

    Args:
        what: such a thing, with its name.
        name: as it was written.
        known: all names.
    """
    near = get_close_matches(name, known, n=1)
    if near:
        return Text("there is no {what}; did you mean {near}?", what=what, near=near[0])
    return Text("there is no {what}; there are {known}", what=what, known=", ".join(sorted(known)))


def translated(name: str, error: Exception) -> BadTemplateError:
    """Return the error of a template for whatever Jinja2 raised.

    Args:
        name: of the template that was compiled or rendered. The error may be in one that it includes.
        error: as raised.
    """
    if isinstance(error, BadTemplateError):
        return error
    at, line, problem = name, 0, text_of(error)
    if isinstance(error, TemplateSyntaxError):
        line, problem = error.lineno, error.message or ""
    else:
        step = error.__traceback__
        while step is not None:  # Jinja2 makes its traceback point into the template
            if "__jinja_exception__" in step.tb_frame.f_globals:
                at, line = step.tb_frame.f_code.co_filename, step.tb_lineno
            step = step.tb_next
    kind = problem if isinstance(error, TemplateRefusedError) else type(error).__name__
    if isinstance(error, RecursionError):
        problem = kind = Text("is nested too deeply, or a macro calls itself")
    elif not isinstance(problem, Text):  # Jinja2's own may have several lines
        problem = " ".join(problem.split()) or kind
    return BadTemplateError(at, line, problem, kind)
