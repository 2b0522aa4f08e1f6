"""The sinks `apprise+…://`: Telegram, e-mail, Slack and whatever else Apprise reaches.

Apprise blocks, so each message is sent in a thread. A thread cannot be cancelled: when the attempt is over,
the thread goes on, and what becomes of it is the answer to the next attempt for the same event. So within
one process no message is sent twice because an answer was slow; after a restart one may be.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from threading import Thread, local

import anyio

from shop_poller.core.addresses import SinkAddress
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Delivery, EventType

try:
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, PersistentStoreMode
    from apprise.plugins import NotifyBase
except ModuleNotFoundError as error:
    raise ValueError("needs Apprise; install it: pip install 'shop-poller[apprise]'") from error

CONNECT_TIMEOUT_S = 4.0
READ_TIMEOUT_S = 5.0
"""Together less than an attempt may take."""
MOST_REMEMBERED = 1000
"""Answers that came after their attempt was over."""
MAX_REASON = 300
STATUS = re.compile(r"error=([1-5][0-9]{2})\b")
KINDS = {
    429: ErrorKind.RATE_LIMIT,
    502: ErrorKind.UNAVAILABLE,
    503: ErrorKind.UNAVAILABLE,
    504: ErrorKind.UNAVAILABLE,
}
TYPES = {"warning": NotifyType.WARNING, "error": NotifyType.FAILURE, "critical": NotifyType.FAILURE}


class _Heard(logging.Handler):
    """What Apprise says in a thread, its only words on why something failed; none get into our log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._here = local()

    def begin(self) -> list[str]:
        """Listen in this thread from now on."""
        self._here.said = said = list[str]()
        return said

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if somebody listens."""
        said = getattr(self._here, "said", None)
        if said is not None and len(said) < 10:
            said.append(record.getMessage())


HEARD = _Heard()
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").handlers = [HEARD]
for chatty in ("urllib3", "requests"):  # they show whole URLs, and Telegram's have the bot's token
    logging.getLogger(chatty).setLevel(logging.CRITICAL)


class AppriseSink:
    """Sends by one Apprise URL. For the methods see ports.Sink.

    Args:
        address: where to.
        connections: the most threads at once.

    Raises:
        ValueError: Apprise cannot use the URL.
    """

    def __init__(self, address: SinkAddress, *, connections: int) -> None:
        self.name = address.name
        self._url = address.url
        self._secrets = [re.compile(re.escape(secret), re.IGNORECASE) for secret in address.secrets]
        self._asset = AppriseAsset(
            app_id="shop-poller",
            http_redirects=False,  # a URL with a token in it is for one host
            allow_templates=False,
            storage_mode=PersistentStoreMode.MEMORY,
        )
        self._room = anyio.Semaphore(connections)
        self._sendings: dict[str, _Sending] = {}  # by event id; answers nobody has heard yet are among them
        # One for each thread: they remember things about the message that they are sending.
        self._idle = [self._service()]

    async def send(self, delivery: Delivery) -> None:
        """Send one message, or hear what became of it if an earlier attempt could not wait so long."""
        sending = self._sendings.get(delivery.event_id)
        if sending is None or (sending.is_over and not sending.ok):
            sending = await self._begin(delivery)
        await sending.done.wait()
        self._sendings.pop(delivery.event_id, None)
        if not sending.ok:
            raise self._refusal(sending)

    async def check(self) -> str:
        """Apprise's URL is understood; more cannot be known without a message."""
        return (
            f"Apprise knows how to send ({self._idle[0].service_name}); notify-test shows whether it arrives"
        )

    async def aclose(self) -> None:
        """Nothing to close: connections live as long as a message takes."""

    async def _begin(self, delivery: Delivery) -> "_Sending":
        await self._room.acquire()
        service = self._idle.pop() if self._idle else self._service()

        def over() -> None:
            self._idle.append(service)
            self._room.release()

        while len(self._sendings) >= MOST_REMEMBERED:
            del self._sendings[next(iter(self._sendings))]
        sending = self._sendings[delivery.event_id] = _Sending(service, delivery, over)
        return sending

    def _service(self) -> NotifyBase:
        said = HEARD.begin()
        service = Apprise.instantiate(self._url, asset=self._asset)
        if not isinstance(service, NotifyBase):
            why = self._clean(said[0]) if said else "it knows no such service"
            raise ValueError(f"Apprise cannot use this URL: {why}")  # noqa: TRY004 - it is a value that is wrong
        service.socket_connect_timeout = min(service.socket_connect_timeout, CONNECT_TIMEOUT_S)
        service.socket_read_timeout = min(service.socket_read_timeout, READ_TIMEOUT_S)
        return service

    def _refusal(self, sending: "_Sending") -> TemporaryError:
        """Apprise says no more than no; its log says why, sometimes with a status."""
        text = " ".join(sending.said)
        found = STATUS.search(text)
        if found is None:
            kind = ErrorKind.CONNECTION
        else:
            status = int(found[1])
            kind = KINDS.get(status, ErrorKind.SERVER if status >= 500 else ErrorKind.REJECTED)
        return TemporaryError(kind, f"Apprise: {self._clean(text) or 'it was not sent'}")

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = secret.sub("***", text)
        return "".join(char if char.isprintable() else " " for char in text)[:MAX_REASON]


class _Sending:
    """A message on its way out, in a daemon thread, so that it does not hold the end of the process.

    Args:
        service: sends it.
        delivery: what.
        over: is called on the event loop when the thread is at its end.

    Attributes:
        ok: whether the service took it.
        said: what Apprise said meanwhile.
    """

    def __init__(self, service: NotifyBase, delivery: Delivery, over: Callable[[], None]) -> None:
        self.done = anyio.Event()
        self.ok = False
        self.said: list[str] = []
        self._service = service
        self._delivery = delivery
        self._over = over
        self._loop = asyncio.get_running_loop()
        Thread(target=self._run, name="apprise", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether it is known what became of it."""
        return self.done.is_set()

    def _run(self) -> None:
        title, body, notify_type = message(self._delivery)
        said = HEARD.begin()
        try:
            # Not through Apprise(…).notify, which would try again by itself.
            self.ok = self._service.notify(
                body=body, title=title, notify_type=notify_type, body_format=NotifyFormat.TEXT
            )
        except Exception as error:  # noqa: BLE001 - a hundred plugins; whatever one raises, it was not sent
            said.append(type(error).__name__)
        self.said = said
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        self._over()
        self.done.set()


def message(delivery: Delivery) -> tuple[str, str, NotifyType]:
    """Title, body and type of a message; a repeat is known by the body's end."""
    notification = json.loads(delivery.body)
    kind = TYPES.get(notification["level"], NotifyType.INFO)
    if delivery.event_type == EventType.RECOVERED:
        kind = NotifyType.SUCCESS
    return notification["title"], f"{notification['message']}\n[{delivery.event_id[:8]}]", kind
