"""When a refusal that may pass is final."""

import pytest

from shop_poller.core.refusals import (
    MOST_REMEMBERED,
    REFUSAL_LASTS_S,
    REFUSAL_TRIES,
    REFUSED_CAP_S,
    SEVERAL,
    Refusals,
    refused_wait_s,
)

LONG = 1e9


def refused_at(refusals: Refusals, *times: float, seq: int = 1, waited_s: float = LONG) -> list[bool]:
    return [refusals.refused(seq, waited_s=waited_s, now=at).is_final for at in times]


def test_one_delivery_is_refused_for_good_after_minutes_and_several_tries() -> None:
    assert refused_at(Refusals(), 0, 60, 120, 180, 240, 299, 300) == [False] * 6 + [True]


def test_two_tries_are_not_enough_however_far_apart() -> None:
    assert refused_at(Refusals(), 0, 10 * REFUSAL_LASTS_S, 20 * REFUSAL_LASTS_S) == [False, False, True]


def test_many_tries_are_not_enough_within_a_short_time() -> None:
    assert refused_at(Refusals(), *range(100)) == [False] * 100


def test_a_delivery_that_came_late_into_a_refusal_gets_its_minutes_too() -> None:
    refusals = Refusals()
    refused_at(refusals, 0, 100, 200, 300, seq=1)
    assert not refusals.refused(2, waited_s=10, now=400).is_final
    assert refusals.refused(2, waited_s=300, now=690).is_final
    assert refusals.refused(3, waited_s=300, now=691).is_final, "refused once, but it waited as long"


def test_two_tries_far_apart_and_a_short_refusal_of_all_are_not_enough_together() -> None:
    refusals = Refusals()
    refused_at(refusals, 0)
    refusals.took()
    refused_at(refusals, 990, seq=2)
    refused_at(refusals, 995, seq=3)
    found = refusals.refused(1, waited_s=LONG, now=1000)
    assert not found.is_final
    assert (found.since, found.tries) == (990, 2)


def test_what_was_taken_meanwhile_leaves_a_delivery_its_own_refusals() -> None:
    refusals = Refusals()
    refused_at(refusals, 0, 100)
    refusals.took()
    assert not refusals.refused(2, waited_s=LONG, now=300).is_final
    assert refused_at(refusals, 301) == [True]


@pytest.mark.parametrize("end", ["took", "interrupted"])
def test_several_in_a_row_are_the_sinks(end: str) -> None:
    refusals = Refusals()
    found = [refusals.refused(seq, waited_s=0, now=0) for seq in (1, 1, 1, 2, 3)]
    assert [one.is_sinks for one in found] == [False] * 4 + [True]
    assert [one.is_only for one in found] == [True, True, True, False, False]
    assert SEVERAL == 3
    getattr(refusals, end)()
    assert not refusals.refused(4, waited_s=0, now=1).is_sinks


def test_an_outage_in_between_begins_the_count_anew() -> None:
    refusals = Refusals()
    refused_at(refusals, 0, 100, 200)
    refusals.interrupted()
    assert refused_at(refusals, 301, 400, 500, 600, 601) == [False] * 4 + [True]


def test_a_delivery_that_is_over_is_forgotten() -> None:
    refusals = Refusals()
    refused_at(refusals, 0, 100, 200)
    refusals.took()
    refusals.forget(1)
    assert refused_at(refusals, 301) == [False]


def test_what_is_remembered_is_bounded() -> None:
    refusals = Refusals()
    for seq in range(2 * MOST_REMEMBERED):
        refusals.refused(seq, waited_s=0, now=0)
    assert len(refusals._by_seq) == MOST_REMEMBERED
    assert len(refusals._in_a_row) == SEVERAL


@pytest.mark.parametrize("attempts", [1, 2, 5, 30, 1000])
@pytest.mark.parametrize("random", [0.0, 0.5, 1.0])
def test_it_is_tried_again_within_a_minute_and_not_at_once(attempts: int, random: float) -> None:
    assert 15 <= refused_wait_s(attempts, random=random) <= REFUSED_CAP_S
    assert REFUSED_CAP_S * (REFUSAL_TRIES - 1) <= REFUSAL_LASTS_S
