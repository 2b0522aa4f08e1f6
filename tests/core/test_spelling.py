"""Which name a misspelled one was probably meant to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.config.settings import Settings
from shop_poller.core.spelling import LONGEST, MOST_EDITS, closest, edits

SETTINGS = [*map(str.upper, Settings.model_fields)]
OPTIONS = ["events", "levels", "where", "rate", "quiet", "urgent", "digest"]
short = st.text("abc", max_size=5)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("SHOP_NOTIFY_URL", "SHOP_NOTIFY_URLS"),
        ("SHOP_POLING_INTERVAL", "SHOP_POLLING_INTERVAL"),
        ("SHOP_POLL_INTERVAL", "SHOP_POLLING_INTERVAL"),
        ("SHOP_SENDRES", "SHOP_SENDERS"),
        ("shop_locale", "SHOP_LOCALE"),
        ("WOOCOMERCE_CONSUMER_KEY", "WOOCOMMERCE_CONSUMER_KEY"),
        ("SHOP_LOCALE", ""),
        ("SHOP_FLOOR", ""),
        ("SHOP_HTTP_PORT", ""),
        ("", ""),
    ],
)
def test_of_a_setting(name: str, right: str) -> None:
    assert closest(name, SETTINGS) == right


@pytest.mark.parametrize(
    ("name", "right"),
    [
        *[("level", "levels"), ("Level", "levels"), ("leveks", "levels"), ("event", "events")],
        *[("evnets", "events"), ("rates", "rate"), ("raet", "rate"), ("quite", "quiet"), ("wheere", "where")],
        *[("date", ""), ("gate", ""), ("state", ""), ("labels", ""), ("there", ""), ("urgency", "")],
        *[("key", ""), ("token", ""), ("rate" * 30, "")],
    ],
)  # fmt: skip
def test_of_a_short_option(name: str, right: str) -> None:
    assert closest(name, OPTIONS) == right


@given(short, short)
def test_edits_are_counted_as_by_definition(name: str, right: str) -> None:
    """Short names: replacing is leaving one out and adding another."""

    def count(name: str, right: str) -> int:
        if not name or not right:
            return len(name) + len(right)
        if name[0] == right[0]:
            return count(name[1:], right[1:])
        found = 1 + min(count(name[1:], right), count(name, right[1:]))
        if name[:2] == right[1::-1] and len(name) > 1:
            found = min(found, 1 + count(name[2:], right[2:]))
        return found

    expected = MOST_EDITS + 1 if abs(len(name) - len(right)) > MOST_EDITS else count(name, right)
    assert edits(name, right) == expected


def test_a_long_name_is_not_compared() -> None:
    assert closest("x" * (LONGEST + 1), ["x" * LONGEST]) == ""
    assert closest("x" * (LONGEST - 1), ["x" * LONGEST]) == "x" * LONGEST
