"""Checks the form of each answer of Redis. An answer of the wrong form belongs to another command.

Connections can mix answers up: a client whose command was cancelled, or a proxy that miscounts. The next
answers on such a connection are wrong too, so the caller closes the connections.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

TEXT = (str, bytes)
"""The types of a text. A backup reads keys as bytes."""
LATEST_S = 253_402_300_799
"""The last second of the year 9999. Later times are not valid dates."""
MICROSECOND_DIGITS = 6
Fits = Callable[[Sequence[str | int], Any], bool]
"""Returns whether an answer fits a command."""


def command_fits(command: Sequence[str | int], answer: Any) -> bool:
    """Return whether an answer fits this command. For a command that we do not use, every answer fits."""
    fits = COMMANDS.get(str(command[0]))
    return fits is None or fits(command, answer)


def script_fits(script: str, *, keys: int, args: int, answer: Any) -> bool:
    """Return whether an answer fits this script of scripts/*.lua.

    Args:
        script: the name of the script.
        keys: how many keys it got.
        args: how many arguments it got, including the nonce.
        answer: the answer.
    """
    fits = SCRIPTS.get(script)
    return isinstance(answer, int) if fits is None else fits(keys, args, answer)


def _whole(_: Sequence[str | int], answer: Any) -> bool:
    return isinstance(answer, int)  # the client converts some numbers to bool


def _text(_: Sequence[str | int], answer: Any) -> bool:
    return answer is None or _is_text(answer)


def _texts(_: Sequence[str | int], answer: Any) -> bool:
    return isinstance(answer, list | set) and all(map(_is_text, answer))


def _values(before: int) -> Fits:
    """Make a check for a list with a text or None for each requested name.

    Args:
        before: how many words of the command come before the names.
    """

    def fits(command: Sequence[str | int], answer: Any) -> bool:
        return (
            isinstance(answer, list)
            and len(answer) == len(command) - before
            and all(one is None or _is_text(one) for one in answer)
        )

    return fits


def _members(command: Sequence[str | int], answer: Any) -> bool:
    return _scored(command, answer) if "WITHSCORES" in command else _texts(command, answer)


def _scored(_: Sequence[str | int], answer: Any) -> bool:
    """Return whether these are members and scores. Versions of the client return a flat list or pairs."""
    if not isinstance(answer, list):
        return False
    if answer and not isinstance(answer[0], tuple | list):
        return len(answer) % 2 == 0 and all(map(_is_score, answer[1::2]))
    return all(isinstance(one, tuple | list) and len(one) == 2 and _is_score(one[1]) for one in answer)


def _is_score(score: Any) -> bool:
    try:
        float(score)
    except (TypeError, ValueError):
        return False
    return True


def _mapping(_: Sequence[str | int], answer: Any) -> bool:
    return isinstance(answer, dict)


def _part(inside: Fits) -> Fits:
    """Make a check for a part of a scan: the next position, and what was found."""

    def fits(command: Sequence[str | int], answer: Any) -> bool:
        return (
            isinstance(answer, tuple | list)
            and len(answer) == 2
            and str(answer[0]).isdecimal()
            and inside(command, answer[1])
        )

    return fits


def _is_text(value: Any) -> bool:
    return isinstance(value, TEXT)


def _is_clock(clock: Any) -> bool:
    """Return whether these are seconds and microseconds, as the command TIME returns them."""
    seconds, micros = map(str, clock)
    is_short = len(seconds) <= len(str(LATEST_S)) and len(micros) <= MICROSECOND_DIGITS
    return is_short and seconds.isdecimal() and micros.isdecimal() and int(seconds) <= LATEST_S


def _done(_: int, __: int, answer: Any) -> bool:
    return bool(answer == 1)


def _each(_: int, args: int, answer: Any) -> bool:
    """Return whether the answer is the number of arguments after the nonce."""
    return bool(answer == args - 1)


def _claimed(_: int, __: int, answer: Any) -> bool:
    """Return whether these are a number, a row and a head for each delivery; a head may be None."""
    return (
        isinstance(answer, list)
        and len(answer) % 3 == 0
        and all(map(_is_text, (*answer[::3], *answer[1::3])))
        and all(one is None or _is_text(one) for one in answer[2::3])
    )


def _lease(_: int, __: int, answer: Any) -> bool:
    """Return whether these are the owner and the clock."""
    return isinstance(answer, list) and len(answer) == 3 and _is_text(answer[0]) and _is_clock(answer[1:])


def _renewed(keys: int, _: int, answer: Any) -> bool:
    """Return whether these are the clock, and the owner of each lease."""
    return (
        isinstance(answer, list)
        and len(answer) == 2 + keys
        and _is_clock(answer[:2])
        and all(map(_is_text, answer[2:]))
    )


def _dumped(keys: int, _: int, answer: Any) -> bool:
    """Return whether these are the members of the first key, and dump and time to live of each other key."""
    return isinstance(answer, list) and len(answer) == 2 * keys - 1 and isinstance(answer[0], list | set)


def _replicas(_: int, __: int, answer: Any) -> bool:
    return isinstance(answer, list) and all(map(_is_text, answer))


COMMANDS: Mapping[str, Fits] = {
    **dict.fromkeys(("EXISTS", "HDEL", "HEXISTS", "HLEN", "TTL", "ZCARD", "ZCOUNT"), _whole),
    **dict.fromkeys(("GET", "HGET", "TYPE"), _text),
    "MGET": _values(1),
    "HMGET": _values(2),
    "SMEMBERS": _texts,
    **dict.fromkeys(("ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE"), _members),
    **dict.fromkeys(("HGETALL", "INFO"), _mapping),
    "HSCAN": _part(_mapping),
    "SSCAN": _part(_texts),
    "ZSCAN": _part(_scored),
}
SCRIPTS: Mapping[str, Callable[[int, int, Any], bool]] = {
    **dict.fromkeys(("apply", "commit"), _done),
    **dict.fromkeys(("release_parked", "forget"), _each),
    "claim": _claimed,
    "dump": _dumped,
    "lease": _lease,
    "membership": _replicas,
    "renew": _renewed,
    "stage": lambda _, __, answer: _is_text(answer),
}
"""The checks get the number of keys, the number of arguments, and the answer. A script that is not listed
here answers with a number."""
