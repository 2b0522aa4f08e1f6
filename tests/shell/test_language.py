"""The language of the commands, and whether its catalogue is complete."""

import ast
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

import shop_poller
from shop_poller.cli.help_page import help_page
from shop_poller.cli.language import in_language, locale_of, use_language
from shop_poller.cli.main import app
from shop_poller.cli.usage_errors import TEMPLATES
from shop_poller.core.messages import Locale
from shop_poller.core.translatable import Text, joined
from shop_poller.locales import catalogue

SOURCES = Path(shop_poller.__file__).parent
LANGUAGES: tuple[Locale, ...] = ("ru",)


@pytest.mark.parametrize(
    ("environ", "in_file", "default", "language"),
    [
        ({}, "", "ru", "ru"),
        ({}, "", "en", "en"),
        ({"LANG": "C.UTF-8"}, "", "ru", "ru"),
        ({"LANG": "POSIX"}, "", "en", "en"),
        ({"LANG": "ru_RU.UTF-8"}, "", "en", "ru"),
        ({"LANG": "en_US.UTF-8"}, "", "ru", "en"),
        ({"LANG": "de_DE@euro"}, "", "ru", "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "ru_RU.UTF-8"}, "", "en", "ru"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ru_RU"}, "", "en", "ru"),
        ({"LANG": "ru_RU.UTF-8", "LC_ALL": ""}, "", "en", "ru"),
        ({"LANG": "ru_RU.UTF-8", "LC_ALL": "C"}, "", "en", "en"),
        ({"LANG": "ru_RU.UTF-8", "SHOP_LOCALE": "en"}, "ru", "ru", "en"),
        ({"LANG": "en_US.UTF-8"}, "ru", "en", "ru"),
        ({"LANG": "en_US.UTF-8", "SHOP_LOCALE": "klingon"}, "", "ru", "en"),
    ],
)
def test_the_language(environ: dict[str, str], in_file: str, default: Locale, language: str) -> None:
    assert locale_of(environ, in_file, default=default) == language


@pytest.fixture
def russian() -> Iterator[None]:
    use_language("ru")
    yield
    use_language("en")


@pytest.mark.usefixtures("russian")
def test_a_line_is_printed_in_the_language() -> None:
    line = Text("cannot print: {error}", error=Text("cannot print: {error}", error="ENOSPC"))
    assert line == "cannot print: cannot print: ENOSPC"
    assert in_language(line) == "не удалось напечатать: не удалось напечатать: ENOSPC"
    assert in_language(joined("; ", [line, "and {more}"])) == (
        "не удалось напечатать: не удалось напечатать: ENOSPC; and {more}"
    )
    assert in_language("cannot print: ENOSPC") == "cannot print: ENOSPC", "no Text: from somebody else"


def _help_pages(translate: Callable[[str], str]) -> Iterator[str]:
    """The help of every command."""

    def visit(command: Any, context: Any) -> Iterator[str]:
        yield help_page(context, translate)
        for name in command.list_commands(context) if hasattr(command, "commands") else ():
            inner = command.get_command(context, name)
            yield from visit(inner, inner.context_class(inner, info_name=name, parent=context))

    whole: Any = typer.main.get_command(app)
    yield from visit(whole, whole.context_class(whole, info_name="shop-poller"))


def _help_texts() -> set[str]:
    """Every text of the help of every command."""
    found: set[str] = set()

    def remember(text: str) -> str:
        found.add(text)
        return text

    assert len(list(_help_pages(remember))) > 30
    return found


def test_the_help_has_no_words_that_cannot_be_translated() -> None:
    names = re.compile(r"shop-poller.*|^  [a-z-]+(?=  )|--[a-z-]+|<ru\|en>|\{?shell\}?( <bash\|zsh\|fish>)?")
    for page in _help_pages(lambda text: re.sub("[A-Za-z]", "á", text)):
        left = [line for line in page.splitlines() if re.search("[A-Za-z]{2}", names.sub("", line))]
        assert left == []


def _templates() -> Mapping[str, Path]:
    """Every template of a Text in the source, and a file that has it; and the texts of the help."""
    found: dict[str, Path] = dict.fromkeys(_help_texts(), SOURCES / "cli/help_page.py")
    found |= dict.fromkeys(TEMPLATES, SOURCES / "cli/usage_errors.py")
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Text" and node.args:
                template = node.args[0]
                if isinstance(template, ast.Constant) and isinstance(template.value, str):
                    found[template.value] = path
    return found


def _fields(template: str) -> Counter[tuple[str, str]]:
    """The placeholders of a template, with their formats."""
    return Counter(
        (name, spec or "") for _, name, spec, _ in string.Formatter().parse(template) if name is not None
    )


def _has_words(template: str) -> bool:
    return any(character.isalpha() for text, *_ in string.Formatter().parse(template) for character in text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_catalogue_is_complete(language: Locale) -> None:
    lines = catalogue(language).lines
    templates = {template: path for template, path in _templates().items() if _has_words(template)}
    missing = {template: path.name for template, path in templates.items() if template not in lines}
    assert missing == {}, "to be translated in locales/<language>/commands.toml, help.toml or errors.toml"
    assert sorted(set(lines) - set(templates)) == [], "no longer in the source"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_the_same_values(language: Locale) -> None:
    for template, found in catalogue(language).lines.items():
        forms = {"other": found} if isinstance(found, str) else found
        if not isinstance(found, str):
            assert {"one", "few", "many"} <= set(forms) <= {"one", "few", "many", "other"}, template
            assert "count" in {name for name, _ in _fields(template)}, template
        for form in forms.values():
            assert set(_fields(form)) <= set(_fields(template)), template
            assert {name for name, _ in _fields(template)} - {name for name, _ in _fields(form)} <= {
                "count"
            }, template
            assert "\n" not in form or "\n" in template, template
