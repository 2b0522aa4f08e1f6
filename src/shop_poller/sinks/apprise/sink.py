"""The sinks `apprise+…://`: Telegram, e-mail, Slack and every other service that Apprise supports.

Apprise blocks, so each message is sent in a thread. A thread cannot be canceled: it continues after the
attempt times out. The next attempt for the same event then returns the result of that thread. So within one
process a slow response causes no second message, unless more than MOST_REMEMBERED results are kept. After a
restart it may.
"""

import asyncio
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from smtplib import SMTPException
from threading import Thread, local
from typing import Any
from urllib.parse import urlsplit

import anyio

from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.hosts import is_never_proxied
from shop_poller.core.masking import Masker
from shop_poller.core.model import Delivery
from shop_poller.core.plain_text import one_line
from shop_poller.core.rich_message import RichMessage
from shop_poller.core.translatable import Text
from shop_poller.peer_errors import reason, translated
from shop_poller.sinks.apprise.config import INSTALL, AppriseConfig
from shop_poller.sinks.apprise.mail_answers import answer_in_words, mail_refusal
from shop_poller.sinks.statuses import TEMPORARY

try:
    from apprise import Apprise, AppriseAsset, NotifyType, PersistentStoreMode
    from apprise.plugins import NotifyBase

    from shop_poller.sinks.apprise.message_text import PlainText, message, sent_text, shown_text
except ModuleNotFoundError as error:
    raise ValueError(Text("needs Apprise; install it: {install}", install=INSTALL)) from error

CONNECT_TIMEOUT_S = 4.0
READ_TIMEOUT_S = 5.0
"""The two together are shorter than the time limit of an attempt."""
MOST_REMEMBERED = 1000
"""Messages that are in progress, or whose result came after their attempt timed out."""
MAX_REASON = 300
STATUS = re.compile(r"error=([1-5][0-9]{2})\b")


class _MessageCollector(logging.Handler):
    """Collects what Apprise logs in a thread: its only reasons for a failure. None of it enters our log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._here = local()

    def begin(self) -> list[str]:
        """Start to collect messages of the current thread."""
        self._here.said = said = list[str]()
        return said

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, or the answer of a mail server, if its thread called `begin`."""
        said = getattr(self._here, "said", None)
        if said is None or len(said) >= 10:
            return
        if record.levelno >= logging.WARNING:
            said.append(record.getMessage())
        elif isinstance(error := sys.exception(), SMTPException) and (answer := answer_in_words(error)):
            said.append(answer)


COLLECTOR = _MessageCollector()
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").handlers = [COLLECTOR]
logging.getLogger("apprise").setLevel(logging.DEBUG)
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
        self._scheme = config.url.partition("://")[0]
        self._masker = Masker(config.secrets)
        self._asset = AppriseAsset(
            app_id="shop-poller",
            http_redirects=False,  # a URL that contains a token must reach one host only
            allow_templates=False,
            storage_mode=PersistentStoreMode.MEMORY,
        )
        self._free_services = anyio.Semaphore(connections)
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
        text, _ = message(delivery)
        return shown_text(self._idle[0], self._scheme, text)

    async def aclose(self) -> None:
        """Do nothing: each connection is closed once its message is sent."""

    async def _begin(self, delivery: Delivery) -> "_Sending":
        text = message(delivery)
        await self._free_services.acquire()
        try:
            with translated(self.name, _not_sent):
                sending = self._start(text)
        except BaseException:  # no thread runs that would release it
            self._free_services.release()
            raise
        while len(self._sendings) >= MOST_REMEMBERED:
            del self._sendings[next(iter(self._sendings))]
        self._sendings[delivery.event_id] = sending
        return sending

    def _start(self, text: tuple[PlainText | RichMessage, NotifyType]) -> "_Sending":
        service = self._idle.pop() if self._idle else self._service()

        def over() -> None:
            self._idle.append(service)
            self._free_services.release()

        return _Sending(self.name, service, self._scheme, text, over)

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

    def _refusal(self, sending: "_Sending") -> ShopPollerError:
        """Return the error for a message that was not sent.

        Apprise returns only False. Its log contains the reason, sometimes with an HTTP status.
        """
        text = " ".join(sending.said)
        refusal = mail_refusal(text, Text("{name}: {problem}", name="Apprise", problem=self._clean(text)))
        if refusal is not None:
            return refusal
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
        scheme: of its URL.
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
        scheme: str,
        text: tuple[PlainText | RichMessage, NotifyType],
        over: Callable[[], None],
    ) -> None:
        self.done = anyio.Event()
        self.ok = False
        self.said: list[str] = []
        self._name = name
        self._service = service
        self._scheme = scheme
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
            sent = sent_text(self._service, self._scheme, text)
            # Not through Apprise(…).notify, which retries by itself.
            self.ok = self._service.notify(
                body=sent.body, title=sent.title, notify_type=notify_type, body_format=sent.format
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
