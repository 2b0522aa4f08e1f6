"""Stored lines in English become Texts again."""

from typing import Any

import pytest

from shop_poller.core.recognition import recognized
from shop_poller.core.translatable import Catalogue, Text, translated

LINES = {
    "the receiver answered {status}": "получатель ответил {status}",
    "{problem}; check {what}": "{problem}; проверьте {what}",
    "its log": "журнал",
    "{count} orders": "заказов: {count}",
    "{name} is not {name}": "{name} — не {name}",
    "answers in {seconds:.1f} s": "отвечает за {seconds:.1f} с",
    "{a} {b}": "{b} {a}",
    "{x} of": "из {x}",
}


@pytest.mark.parametrize(
    ("line", "russian"),
    [
        ("the receiver answered 422", "получатель ответил 422"),
        ("the receiver answered 422; check its log", "получатель ответил 422; проверьте журнал"),
        ("7 orders", "заказов: 7"),
        ("seven orders", "seven orders"),
        ("A is not A", "A — не A"),
        ("A is not B", "A is not B"),
        ("answers in 0.1 s", "answers in 0.1 s"),
        ("both of", "both of"),
        ("", ""),
        ("the receiver answered {status}", "получатель ответил {status}"),
    ],
)
def test_a_stored_line_is_translated(line: str, russian: str) -> None:
    found = recognized(line, LINES)
    assert found == line
    assert translated(found, Catalogue(LINES, lambda _: "other")) == russian


def test_values_are_searched_only_so_deep() -> None:
    line = "the receiver answered 1; check its log; check its log; check its log"
    found = recognized(line, LINES, depth=0)
    assert isinstance(found, Text)
    assert not any(isinstance(value, Text) for value in found.values.values())


def test_numbers_are_written_as_in_the_language() -> None:
    marks: Any = str.maketrans(",.", "\u00a0,")
    catalogue = Catalogue({}, lambda _: "other", marks)
    line = Text("{orders:,} in {seconds:.1f} s, {name}", orders=12_345, seconds=0.25, name="1.5")
    assert translated(line, catalogue) == "12\u00a0345 in 0,2 s, 1.5"
