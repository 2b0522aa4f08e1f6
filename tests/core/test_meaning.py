"""What WooCommerce's statuses mean, and that the settings check by the same table."""

import pytest

from shop_poller.config import statuses
from shop_poller.core.meaning import StatusMeaning, StatusMeanings
from shop_poller.core.transition import EVENTS
from shop_poller.sources.woocommerce.statuses import MEANINGS, OWN, meanings


def test_a_status_that_the_table_does_not_name_means_what_the_table_says_of_others() -> None:
    assert MEANINGS.of("sborka") is StatusMeaning.PAID
    assert StatusMeanings({}, other=StatusMeaning.UNPAID).of("sborka") is StatusMeaning.UNPAID


def test_statuses_come_in_the_order_of_the_table() -> None:
    named = MEANINGS.statuses(StatusMeaning.PAID, StatusMeaning.AWAITING)

    assert named == ("pending", "on-hold", "processing")


@pytest.mark.parametrize("status", sorted(OWN))
def test_the_owner_cannot_change_what_a_status_of_woocommerce_means(status: str) -> None:
    assert meanings([status, "quote"]).of(status) is MEANINGS.of(status)


def test_custom_statuses_do_not_change_what_the_import_asks_for() -> None:
    table = meanings(["quote", "processing"])

    assert table.of("quote") is StatusMeaning.UNPAID
    assert table.statuses(*StatusMeaning)[: len(OWN)] == tuple(OWN)


def test_the_settings_call_the_same_statuses_unpaid() -> None:
    assert set(statuses.UNPAID) == {status for status in OWN if not MEANINGS.is_paid(status)}


def test_the_settings_know_which_statuses_have_an_event() -> None:
    own_events = {status: EVENTS[meaning] for status, meaning in OWN.items() if meaning in EVENTS}

    assert own_events == statuses.EVENTS
