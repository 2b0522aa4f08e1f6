"""kill -9, again and again, at random moments; and what has to be true in the end."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from random import Random
from threading import Timer

from support.commands import Running, wait_until
from support.plot import Plot
from support.receivers import Post
from support.redis_server import RedisServer
from support.restless import Restless
from support.site import SHOP_ID, Site

MOMENTS = {
    "while it starts": 15,
    "when it asks the shop": 20,
    "when it delivers": 20,
    "when it was answered": 20,
    "whenever": 15,
    "while it stops": 10,
}
"""When it is killed, and how often."""
MOODS = {"prompt": 2, "slow": 1, "moody": 2}
"""How the receiver answers in one life, and how often so."""
SENDERS = 3
UNRECORDED = 10
"""How many answers may have come while those before them were being written down; on average one or two."""
FORTUNATE_S = 15.0
"""So long a moment is waited for; then the kill comes anyway. More than a lease."""
LEASE = "shop:polling:lease"


class KillTest:
    """A daemon that is killed again and again while orders go on.

    Args:
        site: where it happens.
        seed: of the random numbers.
        server: has the state, is killed now and then itself, and writes everything down before it answers.

    Attributes:
        kills: of the daemon, by their moment.
        server_kills: of the server.
    """

    def __init__(self, site: Site, seed: int, *, server: RedisServer | None = None) -> None:
        self.kills: Counter[str] = Counter()
        self.server_kills = 0
        self._site = site
        self._server = server
        self._random = Random(seed)
        self._whim = Random(seed)  # the receiver's own: it answers in other threads
        self._refused: set[str] = set()  # once each: what is refused again and again has to wait for long
        self._plot = Plot(site, self._random, at_once=6)
        self._restless = Restless(site, self._random, at_once=2)
        self._deaths: list[int] = []  # how many posts had arrived when it was dead
        self._began = time.monotonic()

    def run(self, kills: int, say: Callable[[str], None] = lambda _: None) -> None:
        """Kill so often, let what is left be done, and look whether all is as it must be."""
        said = 0
        while self.kills.total() < kills:
            self._live()
            if self.kills.total() >= said + 10:
                said = self.kills.total()
                say(self.summary)
        self._end_well()
        self.check()
        say(f"{self.summary}; lost 0")
        say(", ".join(f"{moment}: {count}" for moment, count in self.kills.most_common()))

    @property
    def summary(self) -> str:
        """How far it has come, in one line."""
        receiver = self._site.receiver
        taken, events = len(receiver.taken), len({post.event_id for post in list(receiver.taken)})
        server = f" (of the server {self.server_kills} more)" if self._server else ""
        return (
            f"{self.kills.total()} kills{server}, {len(self._orders)} orders, {events} events taken,"
            f" {taken - events} again, {len(receiver.posts) - taken} refused or cut off,"
            f" {(time.monotonic() - self._began) / 60:.1f} minutes"
        )

    def check(self) -> None:
        """Nothing is missing or out of turn; a repeat is known as one, and had a refusal or a kill before."""
        receiver = self._site.receiver
        self._plot.check()
        assert self._restless.untold() == {}
        # Killed for minutes before it has ever read all, it has to say that the shop is not watched.
        alerts = receiver.story(SHOP_ID)
        assert alerts == ["unhealthy", "recovered"] * (len(alerts) // 2)
        sources = {SHOP_ID, *map(str, self._orders)}
        assert {post.source_id for post in receiver.posts} <= sources
        taken = {id(post) for post in receiver.taken}
        arrivals: defaultdict[str, list[int]] = defaultdict(list)
        for number, post in enumerate(receiver.posts):
            assert post.headers["webhook-id"] == post.event_id
            arrivals[post.event_id].append(number)
        assert len(arrivals) == sum(len(receiver.story(source)) for source in sources)
        for event_id, numbers in arrivals.items():
            for before, again in pairwise(numbers):
                assert receiver.posts[before].body == receiver.posts[again].body
                refused = id(receiver.posts[before]) not in taken
                killed = any(before < death <= again for death in self._deaths)
                assert refused or killed, f"{event_id} came again, and need not have: {before}, {again}"
        assert len(receiver.taken) - len(arrivals) <= (SENDERS + UNRECORDED) * self.kills.total()

    @property
    def _orders(self) -> set[int]:
        return self._plot.order_ids | {*self._restless.lives}

    def _live(self) -> None:
        """One life, from its start to its death."""
        (moment,) = self._random.choices(list(MOMENTS), list(MOMENTS.values()))
        (mood,) = self._random.choices(list(MOODS), list(MOODS.values()))
        self._site.receiver.answer = lambda post: self._answer(mood, post)
        server = self._server if self._random.random() < 0.2 else None
        with self._site.start("run", SHOP_SENDERS=str(SENDERS)) as daemon:
            victim = server.process if server is not None and server.process else daemon.process
            self._await(moment, daemon, victim.kill)
            victim.kill()
            if server is not None:
                server.end()
                self.server_kills += 1
                self._go_on(self._random.uniform(0, 1))
                server.start()
                self._go_on(self._random.uniform(0, 2))
                daemon.kill()
            code = daemon.wait()
            # It may have ended by itself only where it was told to, or had no server.
            allowed = {-9, 0, -15} if moment == "while it stops" else {-9}
            assert code in allowed | ({5} if server else set()), f"it ended with {code}"
            assert '"exception"' not in daemon.stderr
            assert "Traceback" not in daemon.stderr
        self._site.receiver.answer = lambda _: 200
        self._go_on(0.05)
        self._site.receiver.drain()  # what it sent in its last moment may be on its way still
        self._deaths.append(len(self._site.receiver.posts))
        if code == -9:
            self.kills[moment] += 1
        if self._server is not None and self._random.random() < 0.97:
            with self._server.client as client:
                client.delete(LEASE)  # as if its ten seconds were over

    def _answer(self, mood: str, post: Post) -> int:
        if mood == "slow":
            self._site.receiver.closing.wait(self._whim.uniform(0, 0.1))
        if mood == "moody" and post.event_id not in self._refused and self._whim.random() < 0.5:
            self._refused.add(post.event_id)
            return 500
        return 200

    def _await(self, moment: str, daemon: Running, kill: Callable[[], None]) -> None:
        """Return when the moment has come; where that must be prompt, kill in it."""
        random, receiver, requests = self._random, self._site.receiver, self._site.served.requests
        match moment:
            case "while it starts":
                self._go_on(random.uniform(0, 1.2))
            case "when it asks the shop":
                enough = len(requests) + random.randint(1, 8)
                self._go_on(FORTUNATE_S, lambda: len(requests) >= enough)
                self._go_on(random.uniform(0, 0.03))
            case "when it delivers" | "when it was answered":
                enough = len(receiver.posts) + random.randint(1, 12)
                delay_s, usual = random.uniform(0, 0.02), receiver.answer

                def answer(post: Post) -> int | None:
                    if len(receiver.posts) >= enough:
                        if moment == "when it delivers":
                            kill()
                        else:
                            Timer(delay_s, kill).start()
                    return usual(post)

                receiver.answer = answer
                self._go_on(FORTUNATE_S, lambda: len(receiver.posts) >= enough)
                self._go_on(delay_s)
            case "whenever":
                self._go_on(random.uniform(0.5, 3))
            case _:
                self._go_on(random.uniform(0.7, 2.5))
                daemon.process.terminate()
                self._go_on(random.uniform(0, 0.3))

    def _go_on(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Let orders go on for a while, or until it is enough."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not enough():
            self._plot.go_on()
            self._restless.go_on()
            time.sleep(min(0.003, max(until - time.monotonic(), 0)))

    def _end_well(self) -> None:
        def ended() -> bool:
            under_way = [part.go_on(begin_more=False) for part in (self._plot, self._restless)]
            return not any(under_way) and not self._restless.untold()

        with self._site.daemon() as daemon:
            wait_until(ended, "the end of every order", within_s=120)
            self._site.polled(3)
            sink = self._site.receiver.url
            wait_until(
                lambda: daemon.metric("shop_outbox_deliveries", sink=sink) == 0,
                "an empty outbox",
            )
