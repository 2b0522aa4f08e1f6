"""How replicas share shops, decided by each for itself."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.schedule import OVERDUE_S, SPREAD_S, first_tick
from shop_poller.core.sharing import (
    LEFT_S,
    MOST_AT_ONCE,
    Orphans,
    at_once,
    phase,
    share,
    to_give,
    to_take,
    weight,
)

replica_names = st.integers(1, 12).map(lambda n: [f"host/{number}" for number in range(n)])
counts = st.integers(0, 120)


@pytest.mark.parametrize(
    ("shops", "replicas", "expected"),
    [(0, 1, 0), (1, 1, 1), (1, 3, 1), (10, 3, 4), (12, 3, 4), (1000, 3, 334)],
)
def test_a_share_is_rounded_up_so_that_all_shops_are_watched(
    shops: int, replicas: int, expected: int
) -> None:
    assert share(shops, replicas) == expected


@given(replica_names, counts)
def test_replicas_one_after_another_share_all_shops_evenly_and_then_nothing_moves(
    names: list[str], count: int
) -> None:
    shops = [f"shop-{number}" for number in range(count)]
    has: dict[str, set[str]] = {replica: set() for replica in names}
    for _ in range(count // MOST_AT_ONCE + 2):
        for replica in names:
            free = [shop for shop in shops if not any(shop in mine for mine in has.values())]
            has[replica].update(to_take(replica, names, shops=count, mine=len(has[replica]), free=free))
    assert Counter(shop for mine in has.values() for shop in mine) == Counter(shops)
    assert all(len(mine) <= share(count, len(names)) for mine in has.values())
    assert not any(to_give(one, names, shops=count, mine=has[one]) for one in names)


@given(replica_names, counts)
def test_who_is_alone_gives_a_newcomer_its_share_and_keeps_what_suits_it(
    names: list[str], count: int
) -> None:
    mine = {f"shop-{number}" for number in range(count)}
    given_away: set[str] = set()
    while some := to_give(names[0], names, shops=count, mine=mine - given_away):
        assert len(some) <= MOST_AT_ONCE
        given_away.update(some)
    kept = mine - given_away
    assert len(kept) == share(count, len(names))
    assert (
        not given_away
        or not kept
        or (max(weight(names[0], shop) for shop in given_away) < min(weight(names[0], shop) for shop in kept))
    )


@given(st.integers(1, 10_000), st.integers(2, 12))
def test_what_one_replica_leaves_the_others_have_room_for_in_two_looks(count: int, replicas: int) -> None:
    then = share(count, replicas - 1)
    assert 2 * at_once(then) >= then - count // replicas


def test_replicas_that_look_at_the_same_moment_rarely_want_the_same_shop() -> None:
    names, shops = ["a/1", "b/1", "c/1"], [f"shop-{number}" for number in range(90)]
    wanted = Counter(
        shop for one in names for shop in to_take(one, names, shops=len(shops), mine=0, free=shops)
    )
    assert len(wanted) >= 75
    assert max(wanted.values()) <= 3


def test_what_nobody_takes_for_a_while_is_left_over_unless_shops_are_still_being_taken() -> None:
    orphans = Orphans()
    assert orphans.free_for_long(100, ["honey", "tea"]) == []
    assert orphans.free_for_long(100 + LEFT_S - 0.1, ["honey", "tea"]) == []
    assert orphans.free_for_long(100 + LEFT_S, ["honey", "tea", "bread"]) == ["honey", "tea"]
    assert (
        orphans.free_for_long(101 + LEFT_S, ["honey", "bread"]) == []
    )  # somebody took one, and may take more
    assert orphans.free_for_long(102 + LEFT_S, ["honey", "tea"]) == ["honey"]  # the other was taken meanwhile


def test_the_phases_of_a_thousand_shops_are_spread_over_the_interval() -> None:
    tenths = Counter(int(10 * phase(f"shop-{number}.example")) for number in range(1000))
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 150
    assert phase("honey.example") == phase("honey.example")


# --- The first tick -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point_s", "ago_s", "expected"),
    [
        (50, None, 30.0),  # never polled: at its point of the grid
        (50, 30.0, 30.0),  # at its point, by another replica
        (50, 5.0, 30.0),  # off it, and in half an interval or more there is one
        (50, 50.0, 10.0),  # off it, and its point would be too late
        (35, 1.0, 59.0),  # off it, and its point would be too soon
        (50, 61.0, 0.0),  # its time has passed by a second
        (50, 100.0 + OVERDUE_S, 30.0),  # nobody watched: no stampede
        (50, -1.0, 30.0),  # that cannot be
    ],
)
def test_the_first_tick_is_an_interval_after_the_last_or_at_the_shop_s_point_before_that(
    point_s: int, ago_s: float | None, expected: float
) -> None:
    now_s = 1_000_000_040.0
    assert now_s % 60 == 20
    last_s = None if ago_s is None else now_s - ago_s
    wait_s = first_tick(point_s / 60, interval_s=60, now_s=now_s, last_s=last_s)
    assert wait_s == pytest.approx(expected)


@given(
    st.floats(0, 1, exclude_max=True),
    st.floats(1, 86_400),
    st.floats(1.7e9, 2e9),
    st.none() | st.floats(1.6e9, 2e9),
)
def test_the_first_tick_is_within_an_interval(
    phase_: float, interval_s: float, now_s: float, last_s: float | None
) -> None:
    assert 0 <= first_tick(phase_, interval_s=interval_s, now_s=now_s, last_s=last_s) <= interval_s


def test_a_shop_that_was_polled_this_moment_is_polled_an_interval_later() -> None:
    interval_s = 11.340917018806067  # the sum with an instant of this century is rounded up
    assert first_tick(0, interval_s=interval_s, now_s=1.7e9, last_s=1.7e9) == interval_s


@given(st.floats(0, 1, exclude_max=True), st.floats(10, 3600), st.floats(1.7e9, 2e9), st.data())
def test_however_often_a_shop_is_handed_over_it_waits_no_more_than_an_interval(
    phase_: float, interval_s: float, now_s: float, data: st.DataObject
) -> None:
    """Each replica has it for a while that may end before its first tick."""
    last_s = now_s
    for after_s in data.draw(st.lists(st.floats(0, interval_s / 4), max_size=30)):
        now_s += after_s
        at_s = now_s + first_tick(phase_, interval_s=interval_s, now_s=now_s, last_s=last_s)
        assert last_s + interval_s / 2 - 1e-3 <= at_s <= max(now_s, last_s + interval_s) + 1e-3
        if at_s <= now_s + interval_s / 10:  # there was time for it
            last_s = now_s = at_s


@pytest.mark.parametrize("ago_s", [None, 7200.0 + 1, -1.0])
def test_shops_that_nobody_watched_do_not_wait_a_long_interval_nor_come_all_at_once(
    ago_s: float | None,
) -> None:
    now_s = 1.7e9
    last_s = None if ago_s is None else now_s - ago_s
    waits_s = [
        first_tick(phase(f"shop-{number}"), interval_s=3600, now_s=now_s, last_s=last_s)
        for number in range(1000)
    ]
    tenths = Counter(int(10 * wait_s / SPREAD_S) for wait_s in waits_s)
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 150


@given(
    st.floats(0, 1, exclude_max=True),
    st.integers(1, int(SPREAD_S)),
    st.floats(1.7e9, 2e9),
    st.floats(0, 86_400),
)
def test_all_replicas_agree_on_the_grid(phase_: float, interval_s: int, now_s: float, later_s: float) -> None:
    one = now_s + first_tick(phase_, interval_s=interval_s, now_s=now_s, last_s=None)
    other = now_s + later_s + first_tick(phase_, interval_s=interval_s, now_s=now_s + later_s, last_s=None)
    steps = (other - one) / interval_s
    assert steps == pytest.approx(round(steps), abs=1e-3)
