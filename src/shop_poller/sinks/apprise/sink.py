"""The sinks `apprise+…://`: Telegram, e-mail, Slack and every other service that Apprise supports.

Apprise blocks, so each message is sent in a thread. A thread cannot be canceled: it continues after the
attempt times out. The next attempt for the same event then returns the result of that thread. So within one
process a slow response never causes a second message. After a restart it may.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from html import escape
from importlib import import_module
from threading import Thread, local
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import anyio

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.hosts import is_never_proxied
from shop_poller.core.masking import Masker
from shop_poller.core.model import Delivery, EventType
from shop_poller.core.plain_text import one_line
from shop_poller.core.rich_message import RICH, RichMessage
from shop_poller.core.translatable import Text
from shop_poller.peer_errors import reason, translated
from shop_poller.sinks.apprise.config import INSTALL, AppriseConfig
from shop_poller.sinks.statuses import TEMPORARY

try:
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, PersistentStoreMode
    from apprise.conversion import convert_between
    from apprise.plugins import NotifyBase
except ModuleNotFoundError as error:
    raise ValueError(Text("needs Apprise; install it: {install}", install=INSTALL)) from error

CONNECT_TIMEOUT_S = 4.0
READ_TIMEOUT_S = 5.0
"""The two together are shorter than the time limit of an attempt."""
MOST_REMEMBERED = 1000
"""Messages that are in progress, or whose result came after their attempt timed out."""
MAX_REASON = 300
TITLE_ROOM = 50
"""Characters that a service may need for the markup of a title in the body."""
STATUS = re.compile(r"error=([1-5][0-9]{2})\b")
TYPES = {"warning": NotifyType.WARNING, "error": NotifyType.FAILURE, "critical": NotifyType.FAILURE}


class PlainText(NamedTuple):
    """A message whose body was written by an earlier version of this program."""

    title: str
    body: str


class _MessageCollector(logging.Handler):
    """Collects what Apprise logs in a thread: its only reasons for a failure. None of it enters our log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._here = local()

    def begin(self) -> list[str]:
        """Start to collect messages of the current thread."""
        self._here.said = said = list[str]()
        return said

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message, if its thread called `begin`."""
        said = getattr(self._here, "said", None)
        if said is not None and len(said) < 10:
            said.append(record.getMessage())


COLLECTOR = _MessageCollector()
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").handlers = [COLLECTOR]
for chatty in ("urllib3", "requests"):  # they log whole URLs, and Telegram's contain the bot's token
    logging.getLogger(chatty).setLevel(logging.CRITICAL)


def _never_proxy_this_machine() -> None:
    """Patch requests, which Apprise uses and which would use a proxy even for this machine.

    Apprise has no setting for proxies.
    """
    sessions: Any = import_module("requests.sessions")
    of_environment: Callable[..., dict[str, str]] = sessions.get_environ_proxies

    def proxies(url: str, no_proxy: str | None = None) -> dict[str, str]:
        if is_never_proxied(urlsplit(url).hostname or ""):
            return {}
        return of_environment(url, no_proxy=no_proxy)

    sessions.get_environ_proxies = proxies


_never_proxy_this_machine()


class AppriseSink:
    """Sends messages to one Apprise URL. For the methods, see ports.Sink.

    Args:
        config: contains the URL.
        connections: the maximum number of threads.

    Raises:
        ValueError: Apprise cannot use the URL.
    """

    def __init__(self, config: AppriseConfig, *, connections: int) -> None:
        self.name = config.name
        self._url = config.url
        self._masker = Masker(config.secrets)
        self._asset = AppriseAsset(
            app_id="shop-poller",
            http_redirects=False,  # a URL that contains a token must reach one host only
            allow_templates=False,
            storage_mode=PersistentStoreMode.MEMORY,
        )
        self._room = anyio.Semaphore(connections)
        self._sendings: dict[str, _Sending] = {}  # by event id; includes results that no attempt has read yet
        # One for each thread: a service keeps state about the message that it sends.
        self._idle = [self._service()]

    async def send(self, delivery: Delivery) -> None:
        """Send one message, or return the result of an earlier attempt that timed out."""
        sending = self._sendings.get(delivery.event_id)
        if sending is None or (sending.is_over and not sending.ok):
            sending = await self._begin(delivery)
        await sending.done.wait()
        self._sendings.pop(delivery.event_id, None)
        if not sending.ok:
            raise self._refusal(sending)

    async def check(self) -> str:
        """Return the service's name. Apprise accepted the URL; only a message could show more."""
        return Text(
            "Apprise knows how to send ({service_name}); notify-test shows whether it arrives",
            service_name=self._idle[0].service_name,
        )

    def shown(self, delivery: Delivery) -> str:
        """Return the message that `send` would send, without markup."""
        service, (text, _) = self._idle[0], message(delivery)
        if isinstance(text, PlainText):
            return f"{text.title}\n{text.body}"
        title, _, target = formatted(service, text)
        fitted = _fitted(text, target, _room(service, title))
        return "\n".join(filter(None, (text.title, _lines(fitted, NotifyFormat.TEXT))))

    async def aclose(self) -> None:
        """Do nothing: each connection is closed once its message is sent."""

    async def _begin(self, delivery: Delivery) -> "_Sending":
        text = message(delivery)
        await self._room.acquire()
        try:
            with translated(self.name, _not_sent):
                sending = self._start(text)
        except BaseException:  # no thread runs that would release it
            self._room.release()
            raise
        while len(self._sendings) >= MOST_REMEMBERED:
            del self._sendings[next(iter(self._sendings))]
        self._sendings[delivery.event_id] = sending
        return sending

    def _start(self, text: tuple[PlainText | RichMessage, NotifyType]) -> "_Sending":
        service = self._idle.pop() if self._idle else self._service()

        def over() -> None:
            self._idle.append(service)
            self._room.release()

        return _Sending(self.name, service, text, over)

    def _service(self) -> NotifyBase:
        said = COLLECTOR.begin()
        with translated(
            self.name, lambda why: ValueError(Text("Apprise cannot use this URL: {why}", why=why))
        ):
            service = Apprise.instantiate(self._url, asset=self._asset)
        if not isinstance(service, NotifyBase):
            why = self._clean(said[0]) if said else Text("it knows no such service")
            raise ValueError(Text("Apprise cannot use this URL: {why}", why=why))  # noqa: TRY004 - the value is wrong
        service.socket_connect_timeout = min(service.socket_connect_timeout, CONNECT_TIMEOUT_S)
        service.socket_read_timeout = min(service.socket_read_timeout, READ_TIMEOUT_S)
        return service

    def _refusal(self, sending: "_Sending") -> TemporaryError:
        """Return the error for a message that was not sent.

        Apprise returns only False. Its log contains the reason, sometimes with an HTTP status.
        """
        text = " ".join(sending.said)
        found = STATUS.search(text)
        if found is None:
            kind = ErrorKind.CONNECTION
        else:
            status = int(found[1])
            kind = TEMPORARY.get(status, ErrorKind.SERVER if status >= 500 else ErrorKind.REJECTED)
        why = self._clean(text) or Text("it was not sent")
        error = TemporaryError(kind, Text("{name}: {problem}", name="Apprise", problem=why))
        return error if found is None else error.answered(int(found[1]))

    def _clean(self, text: str) -> str:
        return one_line(self._masker.mask(text), MAX_REASON)


class _Sending:
    """A message that is being sent in a daemon thread, which does not block the exit of the process.

    Args:
        name: the sink's name.
        service: sends the message.
        text: the message and its type.
        over: called on the event loop when the thread ends.

    Attributes:
        ok: whether the service accepted the message.
        said: what Apprise logged meanwhile.
    """

    def __init__(
        self,
        name: str,
        service: NotifyBase,
        text: tuple[PlainText | RichMessage, NotifyType],
        over: Callable[[], None],
    ) -> None:
        self.done = anyio.Event()
        self.ok = False
        self.said: list[str] = []
        self._name = name
        self._service = service
        self._text = text
        self._over = over
        self._loop = asyncio.get_running_loop()
        Thread(target=self._run, name="apprise", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether the result is known."""
        return self.done.is_set()

    def _run(self) -> None:
        text, notify_type = self._text
        said = COLLECTOR.begin()
        try:
            title, body, target = formatted(self._service, text)
            # Not through Apprise(…).notify, which retries by itself.
            self.ok = self._service.notify(
                body=body, title=title, notify_type=notify_type, body_format=target
            )
        except BaseException as error:  # noqa: BLE001 - whatever one of 100 plugins raises, it was not sent
            reason(self._name, error)  # logs the error
            said.append(type(error).__name__)
        self.said = said
        with suppress(RuntimeError):  # the loop is closed: nothing waits for the result any more
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        self._over()
        self.done.set()


def _not_sent(why: str) -> TemporaryError:
    return TemporaryError(ErrorKind.CONNECTION, Text("{name}: {problem}", name="Apprise", problem=why))


def formatted(service: NotifyBase, text: PlainText | RichMessage) -> tuple[str, str, NotifyFormat]:
    """Convert a message to the format that a service sends, so that a buyer's text is shown as typed.

    Apprise(…).notify does the same before it calls a service. A service that is called directly interprets
    markup in the text.

    Returns:
        Title, body, and their format.
    """
    resolve = getattr(service, "resolve_format", None)  # before Apprise 2, a service supports one format
    target: NotifyFormat = resolve(NotifyFormat.TEXT) if resolve else service.notify_format
    in_body = service.title_maxlen <= 0  # the title becomes a part of the body
    title = _converted(text.title, target) if text.title and in_body else text.title
    if isinstance(text, PlainText):
        return title, _converted(text.body, target), target
    return title, _lines(_fitted(text, target, _room(service, title)), target), target


def _room(service: NotifyBase, title: str) -> int:
    """Return how many characters are left for the lines below a title, as it is sent."""
    return service.body_maxlen - TITLE_ROOM - (len(title) if service.title_maxlen <= 0 else 0)


def _fitted(rich: RichMessage, target: NotifyFormat, limit: int) -> RichMessage:
    """Return the message shortened to a limit. If it is too long, items are left out first, then lines."""
    for count in range(len(rich.items), -1, -1):
        shorter = rich.with_items(count)
        if len(_lines(shorter, target)) <= limit:
            return shorter
    while len(_lines(shorter, target)) > limit and (shorter.personal or shorter.facts):
        shorter = replace(
            shorter,
            personal=shorter.personal[:-1],
            facts=shorter.facts if shorter.personal else shorter.facts[:-1],
        )
    return shorter


def _lines(rich: RichMessage, target: NotifyFormat) -> str:
    lines = [_converted(line, target) for line in rich.lines]
    if rich.url:
        lines.append(_link(rich, target))
    return ("<br/>" if target == NotifyFormat.HTML else "\n").join(lines)


def _link(rich: RichMessage, target: NotifyFormat) -> str:
    match target:
        case NotifyFormat.HTML:
            return f'<a href="{escape(rich.url)}">{escape(rich.url_text)}</a>'
        case NotifyFormat.MARKDOWN:
            return f"[{rich.url_text}]({rich.url})"
        case _:
            return f"{rich.url_text}: {rich.url}"


def _converted(text: str, target: NotifyFormat) -> str:
    convert: Callable[..., str] = convert_between
    return convert(NotifyFormat.TEXT, target, content=text)


def message(delivery: Delivery) -> tuple[PlainText | RichMessage, NotifyType]:
    """Return text and type of a message."""
    notification = json.loads(delivery.body)
    kind = TYPES.get(notification["level"], NotifyType.INFO)
    if delivery.event_type == EventType.RECOVERED:
        kind = NotifyType.SUCCESS
    if RICH in notification:
        return RichMessage.of_json(notification[RICH]), kind
    return PlainText(notification["title"], notification["message"]), kind
