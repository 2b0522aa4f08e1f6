"""The log of a delivery's attempts: what it keeps, and what of a receiver's words."""

from datetime import UTC, datetime, timedelta

import pytest

from shop_poller.core.attempts import (
    DELIVERED,
    MOST_ATTEMPTS,
    MOST_WORDS,
    NO_ATTEMPTS,
    Attempt,
    AttemptLog,
    failed,
)
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.masking import Masker

T0 = datetime(2026, 11, 23, 9, 50, tzinfo=UTC)


def attempts(first: int, last: int) -> list[Attempt]:
    return [Attempt(T0 + timedelta(seconds=n), n, DELIVERED) for n in range(first, last + 1)]


def test_attempts_are_added_in_their_order() -> None:
    log = NO_ATTEMPTS.plus(attempts(1, 2)).plus([]).plus(attempts(3, 3))
    assert (log.count, list(log.kept), log.omitted) == (3, attempts(1, 3), 0)
    assert log.last == attempts(3, 3)[0]
    assert NO_ATTEMPTS.last is None


@pytest.mark.parametrize("step", [1, 3, 7, 40])
def test_the_first_and_the_latest_are_kept_however_they_came(step: int) -> None:
    log, total = NO_ATTEMPTS, 120
    for begin in range(1, total + 1, step):
        log = log.plus(attempts(begin, min(begin + step - 1, total)))
    assert log == AttemptLog(total, (*attempts(1, 1), *attempts(total - MOST_ATTEMPTS + 2, total)))
    assert (len(log.kept), log.omitted) == (MOST_ATTEMPTS, total - MOST_ATTEMPTS)


def test_what_the_receiver_said_is_kept_and_else_the_error() -> None:
    error = PermanentError(ErrorKind.REJECTED, "the receiver answered 422").answered(422, "unknown brand")
    assert failed(T0, 35, error, str) == Attempt(T0, 35, "RejectedError", 422, "unknown brand")
    silent = TemporaryError(ErrorKind.TIMEOUT, "no answer within 10 s")
    assert failed(T0, 35, silent, str) == Attempt(T0, 35, "TimeoutError", None, "no answer within 10 s")


def test_words_are_one_line_of_bounded_length() -> None:
    error = TemporaryError(ErrorKind.SERVER, "500").answered(500, "a\r\nb\x1b[31m\u202e " + "щ" * 900)
    words = failed(T0, 1, error, str).words
    assert words.startswith("a b [31m щщ")
    assert len(words) == MOST_WORDS


def test_secrets_are_masked_before_the_words_are_cut() -> None:
    secret = "tkn4Wd8RmZq1Lx6Bv9Qp"
    said = "x" * (MOST_WORDS - 4) + secret
    words = failed(
        T0, 1, TemporaryError(ErrorKind.SERVER, "500").answered(500, said), Masker([secret]).mask
    ).words
    assert words == "x" * (MOST_WORDS - 4) + "***"
