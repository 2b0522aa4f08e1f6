"""What is logged, and that no secret is.

Logs tell edges, not repeats: the first failure and the recovery, not the thousandth failure of the same kind.
"""

import json
import logging
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import structlog

Log = structlog.typing.FilteringBoundLogger
MASK = "***"
SHORT = 8
FEW = 64
"""So many forms of secrets are looked for one by one."""


def set_up_logging(
    *, level: str, style: Literal["json", "console"] | None, secrets: Iterable[str] = ()
) -> None:
    """Send structlog and the standard library's logging to stderr, one line an event.

    Args:
        level: debug, info, warning, error.
        style: None chooses console on a terminal, else json.
        secrets: are masked wherever they turn up.
    """
    stderr = cast("TextIO", _Patient(sys.stderr))
    console = sys.stderr.isatty() if style is None else style == "console"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: structlog.typing.Processor
    masked: list[structlog.typing.Processor]
    if console:
        render = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    else:
        render = structlog.processors.JSONRenderer(ensure_ascii=False)
    masked = [structlog.processors.format_exc_info, _Masked(render, secrets)]
    structlog.configure(
        processors=[*shared, *masked],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *masked],
        )
    )
    # Libraries speak up only when something is wrong; their chatter is ours to repeat or not.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Somebody who speaks no HTTP to the listener is no news, however often.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _Patient:
    """Standard error that may be full, or have lost its reader: what cannot be logged must not end the watch.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or not."""
        with suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with suppress(OSError):
            self._stream.flush()


class _Masked:
    """Renders an event without the secrets, whatever they are part of.

    Looked for are the forms that they may have in the line; nearly always there are none, and that is all. If
    there are, texts are masked before they are rendered, so that the line stays what it is (JSON); and then
    once more in it, for what only rendering made a text. There the shortest are left out, and numbers: they
    would be found by chance.

    Args:
        render: the last processor.
        secrets: of any length.
    """

    def __init__(self, render: structlog.typing.Processor, secrets: Iterable[str]) -> None:
        self._render = render
        self._secrets = sorted({*filter(None, secrets)}, key=len, reverse=True)  # one may be part of another
        self._forms = sorted({form for one in self._secrets for form in _forms(one)}, key=len, reverse=True)
        self._beginnings = {form[:SHORT] for form in self._forms if len(form) >= SHORT}
        self._short = [form for form in self._forms if len(form) < SHORT]

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        """The line; a processor of structlog."""
        line = str(self._render(logger, method, dict(event)))
        if not self._may_be_in(line):
            return line
        line = str(self._render(logger, method, {key: self._clean(value) for key, value in event.items()}))
        for form in self._forms:
            if len(form) >= SHORT and not form.isdigit():
                line = line.replace(form, MASK)
        return line

    def _may_be_in(self, line: str) -> bool:
        if len(self._forms) <= FEW:
            return any(form in line for form in self._forms)
        # Those of a thousand shops would take several times as long as the rest of the line.
        pieces = [line[start : start + SHORT] for start in range(len(line) - SHORT + 1)]
        return not self._beginnings.isdisjoint(pieces) or any(form in line for form in self._short)

    def _clean(self, value: Any) -> Any:
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, Mapping):
            return {self._clean(k): self._clean(v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(v) for v in value]
        # Whatever else it is, the renderer would show its repr.
        text = str(value) if isinstance(value, str | BaseException) else repr(value)
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def _forms(secret: str) -> set[str]:
    """How a text may stand in another: as it is, in JSON, in a repr, and that in another again."""
    forms = {secret}
    for _ in range(2):
        for form in [*forms]:
            forms |= {
                json.dumps(form, ensure_ascii=False)[1:-1],
                json.dumps(form)[1:-1],
                repr(form)[1:-1],
                repr(form.encode(errors="replace"))[2:-1],
                form.replace("'", "\\'"),
            }
    return forms


class Edges:
    """Remembers what was said last about each thing, so that only changes are said."""

    def __init__(self) -> None:
        self._state: dict[str, str] = {}

    def changed(self, thing: str, state: str) -> bool:
        """Whether this is news about the thing; "" is how everything starts."""
        if self._state.get(thing, "") == state:
            return False
        self._state[thing] = state
        return True
