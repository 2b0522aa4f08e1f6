"""The documents say what the code does."""

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shop_poller import ISSUES
from shop_poller.cli.console import Exit
from shop_poller.cli.main import COMMANDS
from shop_poller.config import sink_options, status_events
from shop_poller.config.loader import load
from shop_poller.config.settings import SettingsError
from shop_poller.config.sinks import parse_sinks
from shop_poller.core.audit import FAULTS, UNDELIVERED, Standing
from shop_poller.core.errors import ErrorKind
from shop_poller.core.expression_parser import parse_expression
from shop_poller.core.expressions import FIELDS
from shop_poller.core.messages import (
    LEVELS,
    ORDER_TEXTS,
    SILENCE_TEXTS,
    MessageFormat,
    ShopInfo,
    order_notification,
)
from shop_poller.core.model import EventType, Order, OrderEvent, OrderItem
from shop_poller.core.rates import Rate
from shop_poller.locales import page_texts
from shop_poller.sinks.registry import SINKS, parse_sink
from shop_poller.sources.woocommerce.dialects import BLIND_TO, NEEDS, candidates, endpoint
from shop_poller.web.troubles import RUNBOOK, SECTIONS

ROOT = Path(__file__).parents[2]
README, README_RU = ROOT / "README.md", ROOT / "README.ru.md"
READMES = pytest.mark.parametrize("readme", [README, README_RU], ids=lambda path: path.name)
COMMANDS_PAGE, COMMANDS_PAGE_RU = ROOT / "docs/commands.md", ROOT / "docs/ru/commands.md"
TEMPLATES_PAGE, TEMPLATES_PAGE_RU = ROOT / "docs/templates.md", ROOT / "docs/ru/templates.md"
PAGES_OF_COMMANDS = pytest.mark.parametrize("page", [COMMANDS_PAGE, COMMANDS_PAGE_RU], ids=["en", "ru"])


def text(path: Path | str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def rows(page: str, header: str) -> list[list[str]]:
    """The rows of the table whose header line begins like this."""
    lines = page.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {header} |"))
    table: list[list[str]] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_of_settings_is_what_the_settings_make() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import configuration; print(configuration.page(), end='')"],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert text("docs/configuration.md") == made.stdout, "run `make docs`"


def test_every_kind_of_sink_is_explained() -> None:
    page = text("docs/notifications.md")
    for sink in SINKS:
        assert any(f"`{begin}" in page or f"({begin}" in page for begin in sink.prefixes), sink.address_format


@READMES
def test_the_settings_named_have_the_defaults_named(readme: Path) -> None:
    header = "variable" if readme == README else "переменная"
    settings = rows(text("docs/configuration.md"), "variable")
    defaults = {code(name)[0]: code(default) for name, default, _ in settings}
    for names, default, _ in rows(text(readme), header):
        for name in code(names):
            assert name in defaults
            if code(default) and defaults[name]:
                assert code(default) == defaults[name]


@PAGES_OF_COMMANDS
def test_the_commands_are_all_named_and_all_there(page: Path) -> None:
    header = "command" if page == COMMANDS_PAGE else "команда"
    named = {code(cell)[0] for cell, _ in rows(text(page), header)}
    words = {line.split()[1] for line in named}
    assert words - {"--version"} == {*COMMANDS}


@pytest.mark.parametrize(
    "line", sorted({code(cell)[0] for cell, _ in rows(COMMANDS_PAGE.read_text(encoding="utf-8"), "command")})
)
def test_every_command_named_is_understood(line: str) -> None:
    command = Path(sys.executable).with_name("shop-poller")
    _, *words = line.split()
    done = subprocess.run([command, *words, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for option in (word for word in words if word.startswith("--") and word != "--version"):
        assert option in done.stdout


@PAGES_OF_COMMANDS
def test_the_exit_codes_are_those_of_the_command_line(page: Path) -> None:
    header = "exit code" if page == COMMANDS_PAGE else "код выхода"
    assert {int(number) for number, _ in rows(text(page), header)} == set(Exit)


@READMES
def test_the_events_and_their_levels_are_those_sent(readme: Path) -> None:
    header = "event" if readme == README else "событие"
    named = {
        (name, level)
        for names, _, levels in rows(text(readme), header)
        for name, level in zip(code(names), levels.split(", "), strict=True)
    }
    assert named == {(str(type_), LEVELS[type_]) for type_ in EventType if type_ is not EventType.TEST}


def test_the_texts_in_the_docs_are_those_sent() -> None:
    texts = {**ORDER_TEXTS["ru"], EventType.SILENCE: SILENCE_TEXTS["ru"]}
    table = rows(text("docs/notifications.md"), "event_type")
    assert {code(type_)[0] for type_, *_ in table} == set(texts)
    for type_, level, title, message in table:
        event_type = EventType(code(type_)[0])
        expected_title, expected = texts[event_type]
        assert (level, title) == (LEVELS[event_type], expected_title)
        assert message == expected.replace("{total}", "{total} ₽").replace("{amount}", "{amount} ₽")


def test_the_notification_in_the_docs_is_one_that_would_be_sent() -> None:
    shown, _ = re.findall(r"```json\n(.+?)```", text("docs/notifications.md"), re.DOTALL)
    at = datetime(2026, 11, 23, 9, 50, tzinfo=UTC)
    order = Order(
        *(1011, "1011", "processing", "1930.00", "RUB", "₽", "Анна"),
        created_at=at,
        modified_at=at,
        items=(OrderItem("Мёд липовый", "2", "1930.00"),),
        payment_code="sbp",
        payment_method="СБП",
        shipping_method="СДЭК",
    )
    event = OrderEvent(EventType.NEW, order, occurrence=1, paid=True, previous_status="pending")
    written = MessageFormat("shop.example", shop=ShopInfo("Пасека", "https://shop.example"))
    sent = order_notification(event, written, now=at + timedelta(seconds=12, milliseconds=345))
    assert json.loads(shown) == json.loads(sent.body())


def _toml_of(setting: str) -> str:
    """The example of a table in the page about notifications."""
    examples = re.findall(r"```toml\n(.+?)```", text("docs/notifications.md"), re.DOTALL)
    (found,) = [one for one in examples if setting in one]
    return str(found)


def test_the_options_of_sinks_in_the_docs_can_be_written_so() -> None:
    page = text("docs/notifications.md")
    addresses = re.search(r"SHOP_NOTIFY_URLS='(apprise.+?)'", page, re.DOTALL)
    assert addresses is not None
    sinks = parse_sinks(addresses[1], parse_sink)
    assert [sink.name for sink in sinks] == ["owner", "crm", "pager"]
    assert str(sinks[0].options.filter.where) == "event = new and total >= 5000"

    table = sink_options.parse(tomllib.loads(_toml_of("shop_sink_options"))["shop_sink_options"])
    (owner,) = sink_options.with_options(parse_sinks("console:#owner", parse_sink), table)
    assert owner.options.filter.where is not None
    assert owner.options.rate == Rate(20, 60.0)

    examples = re.search(r"`where` compares facts of a notification:\n\n(.+?)\n\n", page, re.DOTALL)
    assert examples is not None
    assert [str(parse_expression(line)) for line in examples[1].splitlines()] != []
    named = {name for cell, *_ in rows(page, "field") for name in code(cell)}
    assert named == FIELDS.keys()
    for mistake in re.findall(r"where=: (.+)", page):
        with pytest.raises(ValueError, match=re.escape(mistake)):
            parse_expression("total >")


def test_the_events_of_ones_own_in_the_docs_can_be_written_so() -> None:
    page = text("docs/notifications.md")
    _, in_json = re.findall(r"```json\n(.+?)```", page, re.DOTALL)
    in_toml = _toml_of("shop_status_events")
    table = status_events.parse(tomllib.loads(in_toml)["shop_status_events"])
    named = status_events.parse(in_json)
    assert table == {"sborka": replace(named["sborka"], event="shop.order.sborka")}
    assert named["sborka"].level == "info"
    words = re.search(r"`title` and `message` are needed.+?\n\n", page, re.DOTALL)
    assert words is not None
    assert set(re.findall(r"`(\{\w+\})`", words[0])) == set(status_events.PLACEHOLDERS)


@pytest.mark.parametrize(
    ("english", "russian"),
    [(README, README_RU), (COMMANDS_PAGE, COMMANDS_PAGE_RU), (TEMPLATES_PAGE, TEMPLATES_PAGE_RU)],
)
def test_both_languages_have_the_same_shape(english: Path, russian: Path) -> None:
    def shape(page: str) -> list[str]:
        lines = [line for line in page.splitlines() if line.startswith(("#", "| ", "|-", "    make"))]
        return [re.sub(r"[^|#]", "", line) if not line.startswith(" ") else line.strip() for line in lines]

    assert shape(text(english)) == shape(text(russian))


def test_the_three_lines_of_the_readme_are_enough(tmp_path: Path) -> None:
    for readme in (README, README_RU):
        lines = re.findall(r"^    (WOOCOMMERCE_\w+=.+)$", text(readme), re.MULTILINE)
        assert len(lines) == 3
        dotenv = tmp_path / ".env"
        dotenv.write_text("\n".join(lines))
        assert load(environ={}, dotenv=dotenv, parse_sink=parse_sink).shop == "shop.example"
        dotenv.write_text("\n".join(lines[:2]))
        with pytest.raises(SettingsError):
            load(environ={}, dotenv=dotenv, parse_sink=parse_sink)


@READMES
def test_make_has_the_targets_named(readme: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", text(readme), re.MULTILINE)) <= targets


def test_the_dialects_in_the_docs_are_those_spoken_in_the_order_of_choice() -> None:
    shop = "https://shop.example"
    dialects = candidates(shop)
    table = rows(text("docs/dialects.md"), "dialect")
    assert [code(name) for name, *_ in table] == [[dialect] for dialect in dialects]
    for dialect, (_, _, address, keys, blind_to, _) in zip(dialects, table, strict=True):
        assert shop + code(address)[0] == endpoint(shop, dialect)
        assert " and ".join(code(keys)) == NEEDS[dialect]
        assert blind_to == ", ".join(BLIND_TO[dialect])


def test_the_standings_in_the_docs_are_those_of_an_audit_with_their_exit_codes() -> None:
    codes = dict.fromkeys(Standing, Exit.OK)
    codes |= dict.fromkeys(FAULTS, Exit.MISSED) | dict.fromkeys(UNDELIVERED, Exit.UNDELIVERED)
    named = {code(name)[0]: int(number) for name, _, number in rows(text("docs/operations.md"), "standing")}
    assert named == codes


def test_the_kinds_of_error_in_the_docs_exist() -> None:
    pages = ("operations", "woocommerce", "notifications", "dialects", "runbook")
    for page in (f"docs/{name}.md" for name in pages):
        for name in re.findall(r"\b([A-Z]\w+Error)\b", text(page)):
            assert name in set(ErrorKind)


def anchors(page: Path) -> set[str]:
    """What can be linked to in a page, as forges name it."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    for page in pages:
        for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                there = page.parent / target if target else page
                assert there.exists(), f"{page.name}: {target}"
                assert not anchor or anchor in anchors(there), f"{page.name}: {target}#{anchor}"


def test_versions_are_pinned_without_a_hosts_name() -> None:
    lines = text("constraints.txt").splitlines()
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line) for line in lines)
    project = tomllib.loads(text("pyproject.toml"))["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += [name for name in extra if not name.startswith("shop-poller[")]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert {re.split(r"[\[><=]", name)[0].lower().replace("_", "-") for name in wanted} <= pinned


def pins_of_the_build() -> dict[str, str]:
    """The versions that the package is built with, by name; "" for one that may be any."""
    wanted = tomllib.loads(text("pyproject.toml"))["build-system"]["requires"]
    return {name: version for name, _, version in (line.partition("==") for line in wanted)}


def test_what_builds_the_package_is_pinned() -> None:
    pins = pins_of_the_build()
    # hatchling, what it needs, and what it asks for when pip installs with -e.
    needed = {"hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers", "editables"}
    assert set(pins) == needed
    assert all(re.fullmatch(r"[0-9][A-Za-z0-9.!+]*", version) for version in pins.values()), pins
    tested = dict(line.split("==") for line in text("constraints.txt").splitlines())
    assert pins == {name: tested[name] for name in pins}


def test_bugs_are_reported_where_the_package_says() -> None:
    urls = tomllib.loads(text("pyproject.toml"))["project"].get("urls", {"Issues": ISSUES})
    assert urls["Issues"] == ISSUES


PRIVILEGED = re.compile(r"sudo \S*pip3? install (?P<what>.+)")


def test_no_page_lets_root_build() -> None:
    found = [
        (page.name, command["what"])
        for page in [
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("README*.md"),
            ROOT / "src/shop_poller/cli/systemd_unit.py",
        ]
        for command in PRIVILEGED.finditer(page.read_text(encoding="utf-8"))
    ]
    assert {name for name, _ in found} >= {"start.md", "README.md", "README.ru.md"}
    for page_name, what in found:
        words = what.strip("\"'").split()
        assert "." not in words, f"{page_name}: root builds the package"
        assert not any(word.startswith((".[", "-e", "/src")) for word in words), f"{page_name}: {what}"


def test_the_image_is_built_by_nobody() -> None:
    (build, install) = (
        re.sub(r"\\\n\s*", " ", block)
        for block in re.findall(r"^RUN (.*?[^\\])$", text("Dockerfile"), re.MULTILINE | re.DOTALL)
        if "-m pip " in block
    )
    assert re.search(r"setpriv --reuid=nobody --regid=nogroup --clear-groups [^&]* pip wheel .* /src", build)
    assert "--only-binary :all:" in install
    assert not re.search(r'pip .*install .*"/src', install)


@pytest.mark.parametrize("page", ["guarantees", "security", "unusual-input", "failure-modes"])
def test_every_test_that_shows_a_claim_is_there(page: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", text(f"docs/{page}.md"))
    assert len(named) > 18
    for path, test in named:
        assert not test or re.search(rf"^(async )?def {test}\(", text(path), re.MULTILINE), f"{path}::{test}"


def test_every_guarantee_has_a_test() -> None:
    for promise, shown_by in rows(text("docs/guarantees.md"), "promise"):
        assert "test_" in shown_by or shown_by.startswith("simulation"), promise


@pytest.mark.parametrize("section", ["Wrong key", "Shop down", "Receiver down", "Disk full", "Redis gone"])
def test_what_the_page_says_of_a_breakage_is_in_the_runbook_in_its_words(section: str) -> None:
    _, _, rest = text(RUNBOOK).partition(f"### {section}\n")
    (bullet,) = re.findall(r"^- \*\*Page\*\*: (.+?)^- ", rest.partition("\n#")[0], re.MULTILINE | re.DOTALL)
    said = [re.sub(r"\s+", " ", words) for words in re.findall(r'"([^"]+)"', bullet)]
    known = []
    for words in page_texts("en").values():
        literal = [re.escape(part) for part in re.split(r"{\w+}", words)]
        if sum(map(len, literal)) > 6:  # else it fits nearly everything
            known.append(re.compile(".+".join(literal)))
    assert len(said) > 1
    for words in said:
        named = words in page_texts("en").values()
        assert named or any(one.fullmatch(words) for one in known), words


@pytest.mark.parametrize("section", sorted(set(SECTIONS.values())))
def test_where_the_status_page_says_to_read_on_there_is_something_to_read(section: str) -> None:
    headings = re.findall(r"^#+ (.+)$", text(RUNBOOK), re.MULTILINE)
    assert section in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_page_of_the_architecture_names_every_module() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    code = ROOT / "src/shop_poller"
    packages = (
        "core",
        "config",
        "http",
        "observability",
        "polling",
        "delivery",
        "sources/woocommerce",
        "runtime",
        "cli",
    )
    modules = [path for package in packages for path in sorted((code / package).glob("[a-z]*.py"))]
    assert [str(path.relative_to(code)) for path in modules if f"`{path.name}`" not in page] == []


def test_the_classes_in_the_glossary_are_where_it_says() -> None:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[A-Z].+?) \| (`[a-z].+?) \|", page, re.MULTILINE)
    assert len(rows) > 15
    for names, places in rows:
        paths = [ROOT / "src/shop_poller" / place for place in re.findall(r"`(.+?)`", places)]
        files = [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
        code = "\n".join(file.read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"`(.+?)`", names):
            assert re.search(rf"^class {name}\b", code, re.MULTILINE), f"{name} is not in {places}"


def test_what_contributing_names_is_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = ROOT / "src/shop_poller"
    named = re.findall(r"`((?:src|tests|docs|polling|delivery|cli)/[\w./-]+)`", page)
    named += re.findall(r"\]\(([\w./-]+)\)", page)
    assert len(named) > 12
    assert [path for path in named if not ((ROOT / path).exists() or (code / path).exists())] == []
