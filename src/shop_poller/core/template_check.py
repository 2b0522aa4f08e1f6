"""Finds what would fail in a template, also in parts that no example reaches. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain

from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from shop_poller.core.template_errors import BadTemplateError, unknown
from shop_poller.core.translatable import Text

SUFFIX = ".txt.j2"
MAX_NODES = 2_000
"""Of a template's syntax tree: what it takes to compile grows with it."""
DATA = "data"
"""The value that holds all fields of a notification."""


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The names that a template may use.

    Attributes:
        values: those of a rendering.
        data_fields: those in `data`.
        functions: those that can be called.
        filters: the blank in a name keeps templates from using it.
        tests: after `is`.
        templates: those that can be included.
    """

    values: Collection[str]
    data_fields: Collection[str]
    functions: Collection[str]
    filters: Collection[str]
    tests: Collection[str]
    templates: Collection[str]


def stem(name: str) -> str:
    """Return a template's name without the end of its file's name."""
    return name.removesuffix(SUFFIX)


def check(name: str, tree: nodes.Template, known: KnownNames) -> None:
    """Raise an error for the first unknown name, a loop that calls itself, or too large a template.

    Raises:
        BadTemplateError: with the line.
    """
    for line, problem in chain(
        _unknown_parts(tree, known), _unknown_templates(tree, known), _unknown_values(name, tree, known)
    ):
        raise BadTemplateError(name, line, problem)


def _unknown_parts(tree: nodes.Template, known: KnownNames) -> Iterator[tuple[int, str]]:
    """Yield the problems of loops, filters and tests."""
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            yield loop.lineno, Text("a loop cannot be recursive")
    if sum(1 for _ in tree.find_all(nodes.Node)) > MAX_NODES:
        yield 0, Text("has more than {most:,} parts; make several templates of it", most=MAX_NODES)
    filters = [one for one in known.filters if " " not in one]
    for used in tree.find_all(nodes.Filter):
        if used.name not in filters:
            yield used.lineno, unknown(Text("filter {name}", name=used.name), used.name, filters)
    for test in tree.find_all(nodes.Test):
        if test.name not in known.tests:
            yield test.lineno, unknown(Text("test {name}", name=test.name), test.name, known.tests)


def _unknown_templates(tree: nodes.Template, known: KnownNames) -> Iterator[tuple[int, str]]:
    """Yield the problems of included templates."""
    for kind in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
        for included in tree.find_all(kind):
            of = included.template  # type: ignore[attr-defined] # all four have it
            if isinstance(of, nodes.Const) and stem(wanted := str(of.value)) not in known.templates:
                yield included.lineno, unknown(Text("template {name}", name=wanted), wanted, known.templates)


def _unknown_values(name: str, tree: nodes.Template, known: KnownNames) -> Iterator[tuple[int, str]]:
    """Yield the problems of values, and of the fields of `data`."""
    for line, field_name in _data_fields(tree):
        if field_name not in known.data_fields:
            known_fields = [f"{DATA}.{one}" for one in known.data_fields]
            yield (
                line,
                unknown(
                    Text("value {name}", name=f"{DATA}.{field_name}"), f"{DATA}.{field_name}", known_fields
                ),
            )
    if not name.startswith("_"):  # else it may use what the template that includes it has set
        undeclared = find_undeclared_variables(tree) - {*known.values, *known.functions}
        for used_name in tree.find_all(nodes.Name):
            if used_name.name in undeclared:
                found = used_name.name
                yield used_name.lineno, unknown(Text("value {name}", name=found), found, known.values)


def _data_fields(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    """Yield line and name of each fact that is used, as data.x or data["x"]."""
    for one in tree.find_all(nodes.Getattr):
        if isinstance(one.node, nodes.Name) and one.node.name == DATA:
            yield one.lineno, one.attr
    for item in tree.find_all(nodes.Getitem):
        if isinstance(item.node, nodes.Name) and item.node.name == DATA and isinstance(item.arg, nodes.Const):
            yield item.lineno, str(item.arg.value)
