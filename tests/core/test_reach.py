"""Which shops a replica cannot reach, and who may."""

import pytest

from shop_poller.core.errors import ErrorKind
from shop_poller.core.reach import EVERYTHING, able, is_unreachable, others_may_reach, probe_after_s


@pytest.mark.parametrize(
    ("kind", "failures", "expected"),
    [
        (None, 0, False),
        (None, 9, False),
        (ErrorKind.CONNECTION, 2, False),
        (ErrorKind.CONNECTION, 3, True),
        (ErrorKind.TIMEOUT, 1, False),
        (ErrorKind.TIMEOUT, 2, True),
        (ErrorKind.RATE_LIMIT, 2, False),
        (ErrorKind.RATE_LIMIT, 3, True),
        (ErrorKind.PROTOCOL, 3, True),
        *((kind, 99, False) for kind in (ErrorKind.AUTHENTICATION, ErrorKind.UNAVAILABLE, ErrorKind.SERVER)),
        *((kind, 99, False) for kind in (ErrorKind.NOT_FOUND, ErrorKind.REJECTED, ErrorKind.INTERNAL)),
    ],
)
def test_a_shop_is_unreachable_after_a_few_failures_that_another_replica_may_not_have(
    kind: ErrorKind | None, failures: int, *, expected: bool
) -> None:
    assert is_unreachable(kind, failures) is expected


def test_a_shop_is_probed_ever_later_up_to_an_hour() -> None:
    assert [probe_after_s(times) for times in (1, 2, 3, 7, 1000)] == [60, 120, 240, 3600, 3600]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ({}, ["a", "b"]),
        ({"a": {"shop"}}, ["a", "b"]),
        ({"a": {EVERYTHING}}, ["b"]),
        ({"a": {EVERYTHING}, "b": {EVERYTHING}}, ["a", "b"]),
        ({"gone": {EVERYTHING}}, ["a", "b"]),
    ],
)
def test_replicas_that_reach_any_shop_share_them_or_all_if_none_does(
    reports: dict[str, set[str]], expected: list[str]
) -> None:
    assert able(["a", "b"], reports) == expected


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ({}, True),
        ({"a": {"shop"}}, True),
        ({"b": {"shop"}}, False),
        ({"b": {EVERYTHING}}, False),
        ({"b": {"other"}}, True),
    ],
)
def test_another_replica_may_reach_what_it_has_not_reported(
    reports: dict[str, set[str]], *, expected: bool
) -> None:
    assert others_may_reach("shop", "a", ["a", "b"], reports) is expected


def test_who_is_alone_has_no_other() -> None:
    assert not others_may_reach("shop", "a", ["a"], {})
