"""What is shown of a text of somebody else's: one line, with nothing in it that is obeyed or unseen."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.plain_text import MOST_MARKS, USUAL, one_line, plain

FAMILY = "👩‍👩‍👧"
TURNED = "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


@pytest.mark.parametrize(
    "text",
    [
        "Ольга Ёлкина, заказ №1002 на сумму 5 990,00 ₽",
        "Zoë O'Hara-Núñez — «Grüße»",
        FAMILY,
        "❤️ 🏳️‍🌈 👍🏽 🦔",
        "می‌خواهم",  # Persian, with a joiner that is no letter
        "क्‍ष",
        "שלום עליכם",
        "ภาษาไทย ที่นี่",
        "한국어 日本語 中文",
        "é ё й",
        "  two  blanks  ",
        "",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\nc\td", "a b  c d"),
        ("\x1b[2Ja\x9b31mb\x07", " [2Ja 31mb "),
        ("a\u2028b\u2029c\x85d\x0bd\x0cd\x1cd", "a b c d d d d"),
        ("a\u00a0b\u3000c\u2009d", "a b c d"),
        (f"a{TURNED}b", f"a{' ' * len(TURNED)}b"),
        ("a\u200e\u200f\u061cb", "ab"),
        ("a\u200b\u2060\ufeff\u00adb", "ab"),
        ("a\u200db\u200cc", "abc"),
        ("\u200d🦔\u200d", "🦔"),
        ("👩\u200d\u200d👧", "👩👧"),
        ("a\U000e0001\U000e0061\U000e007fb", "ab"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴"),
        ("a\u3164\u115f\u1160\uffa0\u2800\u180e\u034fb", "ab"),
        ("a\ufe00\U000e0100b", "ab"),
        ("a\ud83d\udc00b", "ab"),
        ("a\ue000\U000f0000\uffffb", "ab"),
        ("a" + "\u0335" * 50, "a" + "\u0335" * MOST_MARKS),
        ("\x00", " "),
    ],
)
def test_what_is_obeyed_becomes_a_blank_and_what_is_unseen_goes(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_one_may_see_that_there_was_something() -> None:
    assert plain("a\x1b\u202eb\u200bc d", instead="�") == "a��b�c d"


@given(
    st.text(st.characters(), max_size=200) | st.text(st.characters(categories=["Cf", "Cc", "Zl", "Zs", "Mn"]))
)
def test_whatever_comes_it_is_one_line_that_turns_nothing(text: str) -> None:
    shown = plain(text)
    assert plain(shown) == shown
    assert len(shown.splitlines()) <= 1
    shown.encode()
    for at, char in enumerate(shown):
        assert unicodedata.category(char) not in {"Cc", "Cs", "Cn", "Co", "Zl", "Zp"}
        assert unicodedata.bidirectional(char) not in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }
        if unicodedata.category(char) == "Cf":
            assert char in "\u200c\u200d"
            assert 0 < at < len(shown) - 1


@given(st.text(st.characters(max_codepoint=0xFFFF), max_size=100))
def test_what_is_usual_is_not_looked_at_letter_by_letter_and_comes_to_the_same(text: str) -> None:
    usual = "".join(char for char in text if USUAL.fullmatch(char))
    assert "".join(plain(f"x{char}")[1:] for char in usual) == usual


@given(st.text(max_size=300), st.integers(1, 50))
def test_a_quote_is_short_and_has_no_blanks_to_spare(text: str, limit: int) -> None:
    said = one_line(text, limit)
    assert len(said) <= limit
    assert said == " ".join(said.split())
    assert one_line(text * 1000, limit) == one_line(text * 1000, limit)


@pytest.mark.parametrize("kind", [TemporaryError, PermanentError])
def test_an_error_is_one_line_whoever_wrote_it(kind: type[TemporaryError | PermanentError]) -> None:
    error = kind(ErrorKind.PROTOCOL, "it says\n2026-11-30 all is well\x1b[2K \u202eesrever\u2028x")
    assert str(error) == "it says 2026-11-30 all is well [2K  esrever x"
