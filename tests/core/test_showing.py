"""What of a misplaced value may be shown: words and numbers, and nothing that may be a secret."""

import pytest

from shop_poller.core.showing import before_colon, is_harmless, shown, shown_place


@pytest.mark.parametrize("text", ["info", "10min", "true", "--------", "console:", "shop_locale"])
def test_words_and_small_numbers_are_shown(text: str) -> None:
    assert is_harmless(text)
    assert shown(text) == repr(text)


@pytest.mark.parametrize(
    "text",
    [
        "abcd efgh ijkl mnop qrst uvwx",
        "abcd_efgh_ijkl_mnop",
        "ck_4f5a6b7c8d9e",
        "pa$$word",
        "12345678",
    ],
)
def test_what_may_be_a_secret_is_not(text: str) -> None:
    assert not is_harmless(text, is_name=True)
    assert shown(text, is_name=True) == f"a text of {len(text)} characters"


def test_of_a_list_and_a_table_the_size_is_shown() -> None:
    assert shown(["ck_4f5a6b7c8d9e"]) == "a list of 1"
    assert shown({"a": "ck_4f5a6b7c8d9e", "b": 1}) == "a table of 2"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("crm", "crm"),
        ("console:", "console:"),
        ("https://h.example/hooks/orders", "https://h.example/hooks/orders"),
        ("https://h.example/hooks/T0k3nT0k3nT0k3n/x", "https://h.example/hooks/…/x"),
    ],
)
def test_a_place_is_shown_without_what_in_its_path_may_be_a_secret(name: str, place: str) -> None:
    assert shown_place(name) == place


@pytest.mark.parametrize(
    ("name", "shown"), [("console:", "console"), ("crm", "crm"), ("https://h", "https://h")]
)
def test_no_name_has_a_colon_before_a_colon(name: str, shown: str) -> None:
    assert before_colon(name) == shown
