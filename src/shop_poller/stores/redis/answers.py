"""What an answer of Redis must look like; one that does not is the answer to something else.

Connections have been seen to mix answers up: a client whose command was cancelled, a proxy that lost count.
What follows on such a connection is wrong too, so whoever finds one closes the connections.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

TEXT = (str, bytes)
"""A backup reads keys as the bytes that they are."""
LATEST_S = 253_402_300_799
"""The last second of the year 9999: later ones are no dates."""
MICROSECOND_DIGITS = 6
Fits = Callable[[Sequence[str | int], Any], bool]
"""Whether an answer fits a command."""


def command_fits(command: Sequence[str | int], answer: Any) -> bool:
    """Whether an answer is one to this command; those that we do not use fit always."""
    fits = COMMANDS.get(str(command[0]))
    return fits is None or fits(command, answer)


def script_fits(script: str, *, keys: int, args: int, answer: Any) -> bool:
    """Whether an answer is one to this script of scripts/*.lua.

    Args:
        script: its name.
        keys: how many keys it was given.
        args: how many arguments it was given, the nonce too.
        answer: what came back.
    """
    fits = SCRIPTS.get(script)
    return isinstance(answer, int) if fits is None else fits(keys, args, answer)


def _whole(_: Sequence[str | int], answer: Any) -> bool:
    return isinstance(answer, int)  # the client makes a bool of some


def _text(_: Sequence[str | int], answer: Any) -> bool:
    return answer is None or _is_text(answer)


def _texts(_: Sequence[str | int], answer: Any) -> bool:
    return isinstance(answer, list | set) and all(map(_is_text, answer))


def _values(before: int) -> Fits:
    """A text, or none, for each of what was asked for; `before` words of the command come before them."""

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
    """Members and scores: one after the other, or in pairs, as the client's versions answer."""
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
    """A part of a scan: where it goes on, and what was found."""

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
    """Seconds and microseconds, as Redis tells the time."""
    seconds, micros = map(str, clock)
    is_short = len(seconds) <= len(str(LATEST_S)) and len(micros) <= MICROSECOND_DIGITS
    return is_short and seconds.isdecimal() and micros.isdecimal() and int(seconds) <= LATEST_S


def _done(_: int, __: int, answer: Any) -> bool:
    return bool(answer == 1)


def _each(_: int, args: int, answer: Any) -> bool:
    """One for each argument behind the nonce."""
    return bool(answer == args - 1)


def _claimed(_: int, __: int, answer: Any) -> bool:
    """A number, a row and a head, or none, of each."""
    return (
        isinstance(answer, list)
        and len(answer) % 3 == 0
        and all(map(_is_text, (*answer[::3], *answer[1::3])))
        and all(one is None or _is_text(one) for one in answer[2::3])
    )


def _lease(_: int, __: int, answer: Any) -> bool:
    """Who has it, and the clock."""
    return isinstance(answer, list) and len(answer) == 3 and _is_text(answer[0]) and _is_clock(answer[1:])


def _renewed(keys: int, _: int, answer: Any) -> bool:
    """The clock, and who has each lease."""
    return (
        isinstance(answer, list)
        and len(answer) == 2 + keys
        and _is_clock(answer[:2])
        and all(map(_is_text, answer[2:]))
    )


def _dumped(keys: int, _: int, answer: Any) -> bool:
    """The members of the first key; of each other one its dump, and its time to live."""
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
"""Given how many keys and arguments the script had. A script that is not here answers with a number."""
