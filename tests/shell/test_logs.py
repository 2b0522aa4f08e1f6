"""Logs without secrets, and edges."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.errors import ErrorKind
from shop_poller.observability.logging import ChangeLogger, Log, set_up_logging

SHOP = "shop.example"
SECRET = "hunter2"
OTHERS = [[], [f"ck_{number:040}" for number in range(100)]]
"""Secrets of other shops: few and many are looked for in different ways."""

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Logging is the process's; it is put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was logged since the last time."""

    def read() -> list[str]:
        captured = capsys.readouterr()
        assert captured.out == ""  # standard output is the console sink's
        return captured.err.splitlines()

    return read


def _log() -> Log:
    log: Log = structlog.get_logger()
    return log


def test_a_json_log_is_an_object_a_line(lines: Lines) -> None:
    set_up_logging(level="info", style="json")
    structlog.contextvars.bind_contextvars(shop=SHOP)

    _log().bind(sink="crm").warning("delivery failed", order=316, error_type=ErrorKind.TIMEOUT, нет="да\n")

    (line,) = lines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "delivery failed",
        "level": "warning",
        "shop": SHOP,
        "sink": "crm",
        "order": 316,
        "error_type": "TimeoutError",
        "нет": "да\n",
    }
    assert "нет" in line  # Russian can be read and searched for


def test_a_console_log_is_for_people(lines: Lines) -> None:
    set_up_logging(level="info", style="console")

    _log().warning("delivery failed", order=316, sink="crm")

    (line,) = lines()
    for part in ("warning", "delivery failed", "316", "crm"):
        assert part in line
    assert not line.startswith("{")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("info", ["delivered crm", "delivery failed console:"]),
        ("debug", ["order event", "delivered console:"]),
    ],
)
def test_what_a_sink_prints_on_the_same_terminal_is_logged_at_debug_level(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, level: str, expected: list[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    set_up_logging(level=level, style=None, printing=["console:"])

    _log().info("order event", order=316)
    _log().info("delivered", sink="console:")
    if level == "info":
        _log().info("delivered", sink="crm")
        _log().warning("delivery failed", sink="console:")

    found = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines()]
    assert len(found) == 2
    for line, words in zip(found, expected, strict=True):
        assert all(word in line for word in words.split())
        assert ("[debug" in line) is (level == "debug")


@pytest.mark.parametrize(("style", "on_terminal"), [("json", "yes"), ("console", "")])
def test_a_log_for_programs_or_a_file_has_every_line(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, style: Literal["json", "console"], on_terminal: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: bool(on_terminal))
    set_up_logging(level="info", style=style, printing=["console:"])
    _log().info("order event", order=316)
    _log().info("delivered", sink="console:")
    assert len(lines()) == 2


@pytest.mark.parametrize(("terminal", "expected"), [(True, "console"), (False, "json")])
def test_by_default_a_terminal_gets_the_console_log(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, terminal: bool, expected: str  # noqa: FBT001 - a table
) -> None:  # fmt: skip
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    set_up_logging(level="info", style=None)

    _log().info("started")

    (line,) = lines()
    assert line.startswith("{") is (expected == "json")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_than_the_level_is_not_logged(lines: Lines, level: str, expected: list[str]) -> None:
    set_up_logging(level=level, style="json")
    log = _log()

    log.debug("debug")
    log.info("info")
    log.warning("warning")
    log.error("error")

    assert [json.loads(line)["event"] for line in lines()] == expected


@pytest.mark.parametrize("style", ["json", "console"])
def test_libraries_log_warnings_and_errors_in_the_same_format(lines: Lines, style: Any) -> None:
    set_up_logging(level="debug", style=style)
    structlog.contextvars.bind_contextvars(shop=SHOP)
    library = logging.getLogger("some.library")

    library.info("chatter")
    library.warning("cannot do %s", "this")

    (line,) = lines()
    assert "cannot do this" in line
    assert SHOP in line
    if style == "json":
        entry = json.loads(line)
        assert (entry["event"], entry["level"]) == ("cannot do this", "warning")


def test_setting_up_twice_does_not_log_twice(lines: Lines) -> None:
    for _ in range(2):
        set_up_logging(level="info", style="json")

    _log().info("ours")
    logging.getLogger("some.library").warning("theirs")

    assert [json.loads(line)["event"] for line in lines()] == ["ours", "theirs"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_an_exception_is_logged_with_its_traceback(lines: Lines, style: Any) -> None:
    set_up_logging(level="info", style=style)
    try:
        json.loads("{}")["a bug"]
    except KeyError:
        _log().exception("a sink broke")
        logging.getLogger("some.library").exception("broke, too")

    text = "\n".join(lines())
    assert text.count("Traceback") == 2
    assert text.count("KeyError: 'a bug'") == 2


# --- Secrets in logs ----------------------------------------------------------------------------------------


@dataclass
class Thing:
    """Its repr shows all of it."""

    password: str


class TroubleError(Exception):
    """An exception in whose text a secret is."""


def _fail() -> None:
    raise ValueError(f"cannot log in as shop:{SECRET}")


def _fail_in_a_chain() -> None:
    try:
        _fail()
    except ValueError as error:
        trouble = TroubleError(f"no connection to redis://:{SECRET}@h")
        trouble.add_note(f"tried {SECRET}")
        raise trouble from error


TELLING = f"the password is {SECRET}"
LIBRARY = logging.getLogger("some.library")
LEAKS: dict[str, Callable[[Log], None]] = {
    "in the event": lambda log: log.warning(TELLING),
    "in a value": lambda log: log.warning("x", url=f"https://u:{SECRET}@h/{SECRET}"),
    "as a whole value": lambda log: log.warning("x", password=SECRET),
    "bound before": lambda log: log.bind(password=SECRET).warning("x"),
    "in a list": lambda log: log.warning("x", values=["a", SECRET, ("b", f"-{SECRET}-")]),
    "in a set": lambda log: log.warning("x", values={SECRET}),
    "deep inside": lambda log: log.warning("x", a={"b": [{"c": (f"={SECRET}",)}]}),
    "in a key": lambda log: log.warning("x", values={SECRET: 1}),
    "in bytes": lambda log: log.warning("x", body=SECRET.encode()),
    "in an object": lambda log: log.warning("x", thing=Thing(SECRET), things=[Thing(SECRET)]),
    "in a path": lambda log: log.warning("x", path=Path("/srv") / SECRET),
    "in an error": lambda log: log.warning("x", error=TroubleError(SECRET)),
    "in an error's text": lambda log: log.warning("x", error=str(TroubleError(f"no {SECRET}"))),
    "in a traceback": lambda log: log.exception("x"),  # noqa: LOG004 - called in a handler
    "in exc_info": lambda log: log.warning("x", exc_info=sys.exc_info()),
    "in a library's record": lambda _: LIBRARY.warning(TELLING),
    "in a library's arguments": lambda _: LIBRARY.warning("%s %r", SECRET, Thing(SECRET)),
    "in a library's traceback": lambda _: LIBRARY.exception("x"),
    "in a library's stack": lambda _: LIBRARY.warning(TELLING, stack_info=True),
}


@pytest.mark.parametrize("others", OTHERS, ids=["few", "many"])
@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("leak", LEAKS)
def test_no_secret_is_logged(lines: Lines, leak: str, style: Any, others: list[str]) -> None:
    set_up_logging(level="info", style=style, secrets=["another", SECRET, "", *others])
    try:
        _fail_in_a_chain()
    except TroubleError:
        LEAKS[leak](_log())

    text = "\n".join(lines())
    assert "***" in text
    assert SECRET not in text


HARD = """it's "quoted" \\ and ä"""
"""What stands in another text in many ways."""
HARD_LEAKS: dict[str, Callable[[Log], None]] = {
    "beside another quote": lambda log: log.warning("x", text=f"\"{HARD}\" '{HARD}'"),
    "in a set": lambda log: log.warning("x", values={HARD}),
    "in an error": lambda log: log.warning("x", error=TroubleError(HARD)),
    "in JSON in a text": lambda log: log.warning("x", body=json.dumps({"key": HARD})),
    "in a repr in a text": lambda log: log.warning("x", error=str(KeyError(HARD))),
    "in bytes": lambda log: log.warning("x", body=HARD.encode()),
}


@pytest.mark.parametrize("others", OTHERS, ids=["few", "many"])
@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("leak", HARD_LEAKS)
def test_a_secret_is_known_in_every_form_that_a_text_may_have(
    lines: Lines, leak: str, style: Any, others: list[str]
) -> None:
    set_up_logging(level="info", style=style, secrets=[HARD, *others])

    HARD_LEAKS[leak](_log())

    text = "\n".join(lines())
    assert "***" in text
    assert "quoted" not in text


@pytest.mark.parametrize("secret", ["12345", "123456789", "event", "page"])
def test_a_secret_that_is_anything_leaves_json_what_it_is(lines: Lines, secret: str) -> None:
    set_up_logging(level="info", style="json", secrets=[secret])

    _log().info("a page", orders=1234567890, text=f"it is {secret}")

    (line,) = lines()
    entry = json.loads(line)
    assert entry["orders"] == 1234567890
    assert entry["text"] == "it is ***"


@pytest.mark.parametrize("text", ["ck_{0:040}", "at its end: ck_{0:040}", "ck_{0:040} at its beginning"])
def test_each_of_many_secrets_is_masked_wherever_it_stands(lines: Lines, text: str) -> None:
    set_up_logging(level="info", style="json", secrets=OTHERS[1])

    for number in (0, 57, 99):
        _log().info(text.format(number))

    assert all("***" in line and "ck_" not in line for line in lines())


def test_one_secret_may_be_part_of_another(lines: Lines) -> None:
    set_up_logging(level="info", style="json", secrets=["pass", "pass-and-more"])

    _log().info("x", value="pass-and-more pass")

    (line,) = lines()
    assert json.loads(line)["value"] == "*** ***"


def test_without_secrets_nothing_is_masked(lines: Lines) -> None:
    set_up_logging(level="info", style="json", secrets=["", ""])

    _log().info("all is well", values=[1, 2.5, True, None, "text", {"a": "b"}])

    (line,) = lines()
    entry = json.loads(line)
    assert (entry["event"], entry["values"]) == ("all is well", [1, 2.5, True, None, "text", {"a": "b"}])


# --- Edges --------------------------------------------------------------------------------------------------


def test_changes_are_logged_and_repeats_are_not() -> None:
    boundaries = ChangeLogger()
    states = ["", "down", "down", "down", "slow", "slow", "", "", "down"]

    said = [state for state in states if boundaries.changed("shop", state)]

    assert said == ["down", "slow", "", "down"]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "down", "slow"]))))
def test_what_is_said_of_one_thing_has_nothing_to_do_with_another(
    states: list[tuple[str, str]],
) -> None:
    together, alone = ChangeLogger(), {"a": ChangeLogger(), "b": ChangeLogger()}

    for thing, state in states:
        assert together.changed(thing, state) == alone[thing].changed(thing, state)
