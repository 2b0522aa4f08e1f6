"""Sets up the log, and masks secrets in it.

The log reports changes: the first failure and the recovery, not the thousandth failure of the same kind.
"""

import logging
import sys
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from datetime import datetime
from typing import Any, Literal, TextIO, cast

import structlog

from shop_poller.core.masking import SHORT, Masker
from shop_poller.core.plain_text import USUAL, plain
from shop_poller.observability.output import LogWriter

Log = structlog.typing.FilteringBoundLogger
GAP = "lines of this log were dropped: standard error was blocked, full or without a reader"
_stderr: LogWriter | None = None


def set_up_logging(
    *,
    level: str,
    style: Literal["json", "console"] | None,
    secrets: Iterable[str] = (),
    printing: Collection[str] = (),
) -> None:
    """Send structlog and the standard library's logging to stderr, one line per event.

    Args:
        level: debug, info, warning, error.
        style: None chooses console on a terminal, else json.
        secrets: texts to mask wherever they appear.
        printing: names of sinks that print every notification on a terminal. If this log is for people on a
            terminal too, its lines about the same orders are at debug level.
    """
    global _stderr  # noqa: PLW0603 - the process has one
    _stderr = stderr = sys.stderr if isinstance(sys.stderr, LogWriter) else LogWriter(sys.stderr)
    console = sys.stderr.isatty() if style is None else style == "console"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    told: list[structlog.typing.Processor] = []
    if console and printing and sys.stderr.isatty():
        told = [_ToldByPrinting(printing, shows_debug=level == "debug")]
    render: structlog.typing.Processor
    masked: list[structlog.typing.Processor]
    if console:
        render = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    else:
        render = structlog.processors.JSONRenderer(ensure_ascii=False)
    masked = [structlog.processors.format_exc_info, _Masked(render, secrets)]

    def describe_gap(lines: int, since: datetime) -> str:
        event = {"event": GAP, "lines": lines, "since": f"{since:%Y-%m-%dT%H:%M:%S.%fZ}"}
        for processor in shared[1:]:
            event = cast("dict[str, Any]", processor(None, "warning", event))
        return str(render(None, "warning", event))

    stderr.describe_gap = describe_gap
    structlog.configure(
        processors=[*shared, *told, *masked],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stderr)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *masked],
        )
    )
    # Libraries log only warnings and errors; everything less is noise to our users.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Clients that do not speak HTTP are not our problem, however often they connect.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def log_in_background() -> None:
    """Write the log in a background thread from now on; see `output`. Call it before the event loop runs."""
    global _stderr  # noqa: PLW0603 - the process has one
    _stderr = _stderr or LogWriter(sys.stderr)
    sys.stderr = _stderr
    _stderr.start()


def finish_log() -> None:
    """Write the lines that are not written yet, for output.FLUSH_S at most.

    If the time is not enough, the lines are dropped: the process must end.
    """
    if isinstance(sys.stderr, LogWriter) and sys.stderr.finish():
        sys.stderr = sys.stderr.stream


class _ToldByPrinting:
    """Lowers lines about orders that a sink prints on the same terminal to the level debug.

    Args:
        printing: names of these sinks.
        shows_debug: whether lines of that level are shown.
    """

    def __init__(self, printing: Collection[str], *, shows_debug: bool) -> None:
        self._printing = frozenset(printing)
        self._shows_debug = shows_debug

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event, or drop it; this is a processor of structlog."""
        is_printed = event["event"] == "delivered" and event.get("sink") in self._printing
        if is_printed or event["event"] == "order event":
            if not self._shows_debug:
                raise structlog.DropEvent
            event["level"] = "debug"
        return event


class _Masked:
    """Renders an event without secrets, in any form that core/masking.py knows.

    Almost every line has no secret, so the rendered line is checked first. If it has one, the values are
    masked and rendered again, so that the line stays valid JSON. The result is masked once more, since
    rendering may have turned other objects into text. That last pass skips short secrets and numbers,
    which would match by accident.

    Args:
        render: the last processor.
        secrets: of any length.
    """

    def __init__(self, render: structlog.typing.Processor, secrets: Iterable[str]) -> None:
        self._render = render
        secrets = set(secrets)
        self._masker = Masker(secrets)
        self._rendered = Masker(one for one in secrets if len(one) >= SHORT and not one.isdigit())

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        """Return the line; this is a processor of structlog."""
        line = str(self._render(logger, method, dict(event)))
        if not USUAL.fullmatch(line):
            event = {key: _plain(key, value) for key, value in event.items()}
            line = str(self._render(logger, method, dict(event)))
        if self._masker.mask(line) == line:
            return line
        line = str(self._render(logger, method, {key: self._clean(value) for key, value in event.items()}))
        return self._rendered.mask(line)

    def _clean(self, value: Any) -> Any:
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, Mapping):
            return {self._clean(k): self._clean(v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(v) for v in value]
        # The renderer would show the repr of any other type.
        return self._masker.mask(str(value) if isinstance(value, str | BaseException) else repr(value))


def _plain(key: str, value: Any) -> Any:
    """Return a value that is safe to show, whatever its origin. Tracebacks keep their lines."""
    if key in {"exception", "stack"} and isinstance(value, str):
        return "\n".join(map(plain, value.split("\n")))
    if isinstance(value, Mapping):
        return {plain(str(name)): _plain("", one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain("", one) for one in value]
    return plain(value) if isinstance(value, str) else value


class ChangeLogger:
    """Remembers the last state of each thing, so that only changes are logged."""

    def __init__(self) -> None:
        self._state: dict[str, str] = {}

    def changed(self, thing: str, state: str) -> bool:
        """Return whether the state of this thing is new; "" is the initial state."""
        if self._state.get(thing, "") == state:
            return False
        self._state[thing] = state
        return True
