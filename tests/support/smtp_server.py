"""A mail server on loopback: accepts every message, or refuses as it is told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

MAX_LINE = 100_000
ANSWERS = {
    "EHLO": "250-mail.example\r\n250-AUTH PLAIN\r\n250 8BITMIME",
    "AUTH": "235 welcome",
    "QUIT": "221 bye",
}


@dataclass
class ReceivedMail:
    """One message, as it came.

    Attributes:
        sender: of the envelope.
        recipients: of the envelope.
        raw: headers and body.
    """

    sender: str
    recipients: list[str]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """The message, parsed and decoded."""
        found = message_from_bytes(self.raw, policy=default)
        assert isinstance(found, EmailMessage)
        return found


@dataclass
class SmtpServer:
    """What arrived, and what is answered.

    Attributes:
        port: on loopback.
        refusals: the next answers to RCPT, instead of 250.
    """

    port: int = 0
    mails: list[ReceivedMail] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    async def serve(self, stream: SocketStream) -> None:
        lines = BufferedByteReceiveStream(stream)
        mail = ReceivedMail("", [], b"")
        await stream.send(b"220 mail.example ready\r\n")
        with suppress(anyio.IncompleteRead, anyio.BrokenResourceError):
            while True:
                line = (await lines.receive_until(b"\r\n", MAX_LINE)).decode()
                command = line.split(":")[0].split(" ")[0].upper()
                if command == "DATA":
                    await stream.send(b"354 go on\r\n")
                    while (part := await lines.receive_until(b"\r\n", MAX_LINE)) != b".":
                        mail.raw += part.removeprefix(b".") + b"\r\n"
                    self.mails.append(mail)
                    mail = ReceivedMail("", [], b"")
                await stream.send(f"{self._answer(command, line, mail)}\r\n".encode())

    def _answer(self, command: str, line: str, mail: ReceivedMail) -> str:
        address = line.partition("<")[2].partition(">")[0]
        if command == "MAIL":
            mail.sender = address
        elif command == "RCPT":
            mail.recipients.append(address)
            if self.refusals:
                return self.refusals.pop(0)
        return ANSWERS.get(command, "250 ok")


@asynccontextmanager
async def smtp_server() -> AsyncIterator[SmtpServer]:
    """Run a mail server until the block ends."""
    server = SmtpServer()

    async def serve(stream: SocketStream) -> None:
        async with stream:
            await server.serve(stream)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        server.port = listener.listeners[0].extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            yield server
            tasks.cancel_scope.cancel()
