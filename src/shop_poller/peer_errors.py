"""Translates exceptions of client libraries into errors of the peer.

A library may raise anything: uvloop a bare RuntimeError for a closed connection, redis-py an AttributeError,
a plugin any type. None of them may end the daemon, and none is an internal error. So each adapter wraps
its library calls, and nothing else, in `translated`. An error in our own code is not translated.

Types that only mean a lost connection are expected. Any other type is logged once per peer, with its
traceback. The traceback has no exception texts: they may quote a key, an address or an order.
"""

import asyncio
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import anyio
import structlog

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.known_lines import known
from shop_poller.core.translatable import Text, joined

MAX_REPORTED = 1000
"""Pairs of type and peer that are remembered; later ones are not logged."""
MAX_FRAMES = 20
"""Innermost frames of each exception that are logged."""
MAX_LINKED = 8
"""Exceptions in one traceback: causes, contexts, members of groups."""

MAX_REASONS = 500
"""Characters of the reasons of a group."""

LOST = Text("the connection was closed")
CLOSED_TYPES = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, EOFError)
"""Types that mean a lost connection; asyncio.IncompleteReadError is an EOFError."""
CLOSED_TEXTS: tuple[tuple[type[Exception], re.Pattern[str]], ...] = (
    (RuntimeError, re.compile(r"handler is closed|\b(?:Event loop|Session|Connector|Transport) is closed")),
    (
        AttributeError,  # redis-py closes a connection while a command of another task uses it
        re.compile(r"'NoneType' object has no attribute '(?:write|read|drain|close|is_closing|gets|feed)"),
    ),
)
"""Types that may mean anything, with the texts that mean a lost connection."""

_reported: set[tuple[str, str]] = set()


@contextmanager
def translated(
    peer: str,
    make_error: Callable[[str], Exception],
    *,
    passing: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Turn what a client library raises into an error of its peer; wrap only the library's call.

    A cancellation of this task passes. A CancelledError that the library raised by itself does not:
    it would end the task without a message.

    Args:
        peer: who was called, for the log; without a secret.
        make_error: makes the error from a reason, which is one line and quotes nothing.
        passing: types that the caller handles itself; ShopPollerError is always one of them.

    Raises:
        Exception: what `make_error` makes.
    """
    try:
        yield
    except (Exception, asyncio.CancelledError, BaseExceptionGroup) as error:
        if isinstance(error, (ShopPollerError, *passing)) or _is_ours(error):
            raise
        # Not "from error": a traceback of this error would show the text of the original.
        raise make_error(reason(peer, error)) from None


@contextmanager
def ignored(peer: str, *, expected: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Suppress whatever a client library raises, when nothing depends on the call.

    Args:
        peer: who was called, for the log; without a secret.
        expected: types that are not logged.
    """
    with suppress(_IgnoredError, *expected), translated(peer, _IgnoredError, passing=expected):
        yield


def reason(peer: str, error: BaseException, whole: BaseException | None = None) -> str:
    """Return in a few words what an exception of a client library means; log an unexpected one once.

    Args:
        peer: who was called, for the log.
        error: what the library raised.
        whole: the exception group that contains it, if any.
    """
    whole = whole or error
    if isinstance(error, BaseExceptionGroup):
        reasons = {reason(peer, one, whole) for one in error.exceptions[:MAX_LINKED]}
        both = joined("; ", sorted(reasons))
        return both if len(both) <= MAX_REASONS else both[:MAX_REASONS]
    if isinstance(error, OSError):
        return known(" ".join(str(error.strerror or type(error).__name__).split())[:200])
    if is_closed_connection(error):
        return LOST
    _report(peer, error, whole)
    return Text(
        "unexpected {name} in the client library; the log has its traceback", name=type(error).__name__
    )


def is_closed_connection(error: BaseException) -> bool:
    """Return whether an exception only means that the connection is lost."""
    if isinstance(error, CLOSED_TYPES):
        return True
    text = str(error)[:500]
    return any(isinstance(error, kind) and sign.search(text) for kind, sign in CLOSED_TEXTS)


class _IgnoredError(Exception):
    """Is caught in the function that raises it."""


def _is_ours(error: BaseException) -> bool:
    """Return whether it cancels this task or ends the process; also for members of a group."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_ours(one) for one in error.exceptions)
    if isinstance(error, asyncio.CancelledError):
        try:
            task = asyncio.current_task()
        except RuntimeError:  # a thread without an event loop: nothing is cancelled here
            return False
        return task is None or task.cancelling() > 0  # anyio's scopes cancel in this way, too
    return not isinstance(error, Exception)


def _report(peer: str, error: BaseException, whole: BaseException) -> None:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if (peer, kind) in _reported or len(_reported) >= MAX_REPORTED:
        return
    _reported.add((peer, kind))
    with suppress(Exception):  # it may be a MemoryError
        structlog.get_logger().warning(
            "unexpected error in a client library; handled as a failure of the peer",
            peer=peer,
            error_type=kind,
            exception=short_traceback(whole),
        )


def short_traceback(error: BaseException) -> str:
    """Return the bounded traceback of an exception and of its causes, without their texts."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting and len(found) < MAX_LINKED:
        one = waiting.pop(0)
        if one is None or any(one is other for other in found):
            continue
        found.append(one)
        waiting += [one.__cause__, None if one.__suppress_context__ else one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions[:MAX_LINKED]
    parts = [
        f"{''.join(traceback.format_tb(one.__traceback__, limit=-MAX_FRAMES))}"
        f"{type(one).__module__}.{type(one).__qualname__}\n"
        for one in reversed(found)
    ]
    return f"Traceback (most recent call last; without texts):\n{''.join(parts)}".rstrip()
