"""Who comes to the daemons' HTTP side: probes of /healthz, the shop's webhooks, and the owner."""

from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlencode

import anyio

from shop_poller.web.hooks import PATH
from simulation.readers import ADMIN_TOKEN
from support.hooks import SECRET, headers

if TYPE_CHECKING:
    from simulation.processes import Process
    from simulation.world import World

HEALTH_EVERY_S = 25.0
HOOK_EVERY_S = 20.0
MUTE_EVERY_S = 60.0
MUTES_S = (30, 120, 900)
HOOKED = 0.3
"""Of worlds of one shop whose shop sends webhooks."""

Hook: TypeAlias = Literal["genuine", "forged", "unsigned", "repeated", "ping", "of a product"]
HOOKS: tuple[Hook, ...] = ("genuine", "genuine", "forged", "unsigned", "repeated", "ping", "of a product")


async def request(
    site: Any, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, str]:
    """Ask an ASGI application in this event loop.

    Returns:
        The code and the body of its answer.
    """
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 9108),
    }
    sent: list[dict[str, Any]] = []
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(given, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await site(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]).decode()


def sends_hooks(seed: int) -> bool:
    """Whether the shop of a seed's world sends webhooks."""
    return Random(f"webhooks {seed}").random() < HOOKED


class Visitor:
    """Visits the daemons of a world, at times that have nothing to do with what happens there.

    Args:
        world: whose daemons; its own random numbers are not used.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = Random(f"visitor {world.seed}")

    async def look_at_health(self) -> None:
        """Ask some process how it does, again and again, for as long as the world lasts."""
        while not self._world.judge.verdicts:
            await anyio.sleep(self._rng.expovariate(1 / HEALTH_EVERY_S))
            there = [process for process in self._world.processes if process.alive and process.site]
            if there:
                process = self._rng.choice(there)
                process.runs(self._ask(process))

    async def send_hooks(self) -> None:
        """Send webhooks, and what looks like some, to some process, for as long as the world lasts."""
        while not self._world.judge.verdicts:
            await anyio.sleep(self._rng.expovariate(1 / HOOK_EVERY_S))
            there = [process for process in self._world.processes if process.alive and process.site]
            if there:
                process, hook = self._rng.choice(there), self._rng.choice(HOOKS)
                self._world.note(f"a webhook comes to {process}: {hook}")
                process.runs(self._send(process, hook))

    async def _send(self, process: "Process", hook: Hook) -> None:
        body = b'{"id":1}' if hook == "repeated" else f'{{"id":{self._rng.randint(2, 999)}}}'.encode()
        signed = headers(body, secret="another" if hook == "forged" else SECRET)
        if hook in {"unsigned", "ping"}:
            signed = {}
        if hook == "of a product":
            signed["x-wc-webhook-topic"] = "product.updated"
        if hook == "ping":
            body = b"webhook_id=7"
        began_at = self._world.loop.time()
        code, _ = await request(process.site, "POST", PATH, signed, body)
        if not process.alive:
            return
        self._world.judge.counts["webhooks"] += 1
        expected = 401 if hook in {"forged", "unsigned"} else 200
        if code != expected:
            self._world.judge.fail(f"{process} answers {code} to a webhook that is {hook}")
        if hook not in {"genuine", "repeated"}:
            process.no_trigger_at = self._world.loop.time()
            return
        process.trigger_at = self._world.loop.time()
        await self._world.judge.expects_a_poll(process, began_at)

    async def mute_now_and_then(self) -> None:
        """Mute and unmute receivers, as an owner does, until all faults stop."""
        while not self._world.is_calm and not self._world.judge.verdicts:
            await anyio.sleep(self._rng.expovariate(1 / MUTE_EVERY_S))
            there = [process for process in self._world.processes if process.alive and process.site]
            if there and not self._world.is_calm:
                process, sink = self._rng.choice(there), self._rng.choice([*self._world.receivers])
                process.runs(self.mute(process, sink, self._rng.choice([0, *MUTES_S])))

    async def mute(self, process: "Process", sink: str, seconds: int) -> None:
        """Mute for so long, or unmute with 0."""
        fields = urlencode({"sink": sink} | ({"seconds": str(seconds)} if seconds else {}))
        headers = {
            "host": "localhost",
            "authorization": f"Bearer {ADMIN_TOKEN}",
            "content-type": "application/x-www-form-urlencoded",
        }
        path = "/actions/mute" if seconds else "/actions/unmute"
        # An answer that does not come says nothing of what was done.
        self._world.judge.mutes(sink)
        until = self._world.loop.time() + seconds
        code, told = await request(process.site, "POST", path, headers, fields.encode())
        if not process.alive:
            return
        self._world.note(f"{sink} is to be muted for {seconds} s by {process}: {code}")
        if code not in {200, 409, 503}:  # 409: another one polls
            self._world.judge.fail(f"{process} answers {code} {told} to a mute")
        if code == 200 and seconds:
            self._world.judge.mutes(sink, until)

    async def _ask(self, process: "Process") -> None:
        code, told = await request(process.site, "GET", "/healthz")
        if process.alive:
            self._world.judge.counts["health"] += 1
            self._world.judge.health(process, code, told)
