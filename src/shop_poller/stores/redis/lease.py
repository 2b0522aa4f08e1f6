"""The lease, which is a key that expires, and the clock, which is the server's."""

import math
import os
import secrets
import socket
import time
from datetime import UTC, datetime, timedelta

from shop_poller.stores.redis.clock import ANY_TIME
from shop_poller.stores.redis.connection import RedisConnection
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.port import RedisPort

LEASE_S = 10.0
"""How long the lease outlives a killed process. Another replica takes over within this time plus one try."""


class RedisLease(RedisPort):
    """Lease and clock. For the methods see ports.Lease and ports.Clock.

    Attributes:
        term_s: how long the lease outlives a process that no longer renews it.
    """

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        super().__init__(connection, keys)
        self.term_s = LEASE_S
        self._not_before = -math.inf  # until then no lease is taken (monotonic seconds)
        self._unanswered = False

    @property
    def nonce(self) -> str:
        """Proves that the lease is ours; "" until the lease was requested."""
        return self._connection.nonce

    async def ask_clock(self) -> None:
        """Ask the server for its time without taking the lease."""
        await self._lease("look")

    async def take(self) -> bool:
        """Take the lease, if nobody has it. What an earlier session left in memory is void."""
        if not self._unanswered:  # otherwise the lease may be ours under the previous nonce
            self._connection.nonce = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(8)}"
        self._connection.torn = False
        self._commits.forget()
        self._claims.forget()
        if time.monotonic() < self._not_before:
            await self._lease("look")
            return False
        self._unanswered = True
        if self._connection.has_wrong_type:
            await self._aside.move_wrong_keys({self._keys.lease: "string"}, self.now())
        owner = await self._lease("take", latest_ms=self._clock.latest_ms())
        self._unanswered = False
        return owner == self._connection.nonce

    async def renew(self) -> bool:
        """Keep the lease. Return False if it was lost, or if the state is not as this process left it."""
        if self._connection.has_wrong_type and await self._has_wrong_type():
            return False  # `register` renames the key before work begins again
        return not self._connection.torn and await self._lease("renew") == self._connection.nonce

    async def _has_wrong_type(self) -> bool:
        """Return whether a key of the wrong type, found earlier, still exists."""
        expected = {**self._keys.types(self._keys.first_shop), **await self._order.lane_types()}
        self._connection.has_wrong_type = bool(await self._aside.wrong_keys(expected))
        return self._connection.has_wrong_type

    async def release(self) -> None:
        """Release the lease."""
        await self._lease("release")

    async def holder(self) -> str:
        """Return host and process of the owner of the lease; "" for nobody."""
        return person(await self._connection.read("GET", self._keys.lease) or "")

    async def _lease(self, verb: str, *, latest_ms: int = ANY_TIME) -> str:
        args: list[str | int] = [verb, self._connection.nonce, round(self.term_s * 1000), latest_ms]
        requested_at = time.monotonic()
        together = self._connection.renewals
        if verb == "renew" and together is not None:
            *answer, requested_at = await together.renew(
                self._keys.lease, self._connection.nonce, round(self.term_s * 1000)
            )
        else:
            run = self._connection.keep if verb == "renew" else self._connection.unfenced
            answer = await run("lease", [self._keys.lease], args)
        owner, seconds, micros = answer
        theirs = datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(micros))
        answered_at = time.monotonic()
        if self._clock.answered(theirs, requested_at, answered_at) and verb == "take":
            # The clock jumped and ended leases too early. The former owner of ours may not know it yet, and
            # may still send for one term.
            self._not_before = answered_at + self.term_s
        return str(owner)


def person(owner: str) -> str:
    """Return an owner of the lease for people: host and process, without the secret part of the nonce."""
    return "/".join(owner.split("/")[:2])
