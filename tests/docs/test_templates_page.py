"""The pages about templates: their examples render as shown, and their lists are those of the code."""

import re
import tomllib
from pathlib import Path

import pytest

from shop_poller.config.templates import MAX_BYTES, MAX_TEMPLATES
from shop_poller.core.messages import Locale
from shop_poller.core.template_check import MAX_NODES
from shop_poller.core.template_filters import (
    FILTERS,
    MAX_ELEMENTS,
    MAX_OUTPUT,
    MAX_RANGE,
    MAX_STEPS,
    MAX_TEXT,
    OWN_FILTERS,
)
from shop_poller.core.template_sandbox import TemplateSet
from shop_poller.core.templates import DATA_FIELDS, VALUES, MessageTemplates, candidates
from support.notifications import examples, rich_format

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[Locale, Path] = {"en": DOCS / "templates.md", "ru": DOCS / "ru/templates.md"}
BOTH = pytest.mark.parametrize("locale", PAGES)


def blocks(locale: Locale, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.+?)```", PAGES[locale].read_text("utf-8"), re.DOTALL)


def table(locale: Locale, number: int) -> list[list[str]]:
    """The rows of a table, without its head."""
    tables = re.findall(r"(?:^\|.*\n)+", PAGES[locale].read_text("utf-8"), re.MULTILINE)
    rows = tables[number].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rendered(sources: dict[str, str], name: str, locale: Locale) -> str:
    templates = TemplateSet(sources, values=VALUES, data_fields=DATA_FIELDS)
    assert templates.problems == []
    wire = dict(examples(locale))["new"].wire()
    rich = MessageTemplates(frozenset(sources), templates).message(name, rich_format(locale), wire)
    return "\n".join((rich.title, *rich.facts, "")).replace("\u00a0", " ")


@BOTH
def test_the_first_template_renders_as_shown(locale: Locale) -> None:
    (source,), (shown, _) = blocks(locale, "jinja"), blocks(locale, "text")
    assert rendered({"t": source}, "t", locale) == shown


@BOTH
def test_the_table_in_toml_can_be_written_so(locale: Locale) -> None:
    (text,) = blocks(locale, "toml")
    sources = tomllib.loads(text)["shop_templates"]
    assert set(sources) <= {*candidates("shop.order.new", "telegram", locale)}
    assert rendered(sources, "shop.order.new", locale).count("\n") == 2
    assert rendered(sources, "default.telegram", locale)


@BOTH
def test_the_error_is_one_that_is_made(locale: Locale) -> None:
    _, error = blocks(locale, "text")
    (source,) = blocks(locale, "jinja")
    (problem,) = TemplateSet(
        {"t": source.replace("total", "totl", 1)}, values=VALUES, data_fields=DATA_FIELDS
    ).problems
    assert error.strip().endswith(f"shop.order.new.txt.j2, line {problem.line}: {problem.problem}")


@BOTH
def test_the_order_of_templates_is_that_of_the_code(locale: Locale) -> None:
    named = [code(name)[0].removesuffix(".txt.j2") for name, _ in table(locale, 0)]
    assert named == [*candidates("shop.order.new", "telegram", locale)]


@BOTH
def test_every_value_and_filter_is_named(locale: Locale) -> None:
    named = [name for names, _ in table(locale, 1) for name in code(names)]
    assert sorted(named) == sorted(VALUES)
    own = [code(name)[0] for name, _ in table(locale, 2)]
    page = PAGES[locale].read_text("utf-8")
    start = page.index("`abs`")
    of_jinja = code(page[start : page.index("`range`", start)])
    assert sorted(own + of_jinja) == sorted({*FILTERS, *OWN_FILTERS})
    used = [expression for row in table(locale, 2) for expression in re.findall(r"{{.+?}}", row[1])]
    assert len(used) == len(own)
    for expression in used:
        assert rendered({"t": expression.replace("\\|", "|")}, "t", locale)


@BOTH
def test_the_bounds_are_those_of_the_code(locale: Locale) -> None:
    bounds = " ".join(row[1] for row in table(locale, 3)).replace("\u00a0", " ").replace(",", "")
    numbers = [int(number.replace(" ", "")) for number in re.findall(r"\d+(?: \d{3})*", bounds)]
    assert numbers == [
        MAX_TEMPLATES,
        MAX_BYTES // 1024,
        MAX_NODES,
        MAX_OUTPUT,
        MAX_STEPS,
        MAX_RANGE,
        MAX_ELEMENTS,
        MAX_TEXT,
    ]
