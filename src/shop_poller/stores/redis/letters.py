"""Dead letters, looked at and moved beside whoever has the lease: no lease is needed."""

import json
from collections.abc import Collection
from datetime import datetime

from shop_poller.clock import ms
from shop_poller.ports import DeadLetter
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import Connection
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.outbox import Outbox


class Letters:
    """The dead letters under one prefix.

    Args:
        connection: to the server.
        keys: where what stands.
        outbox: knows the lanes.
    """

    def __init__(self, connection: Connection, keys: Keys, outbox: Outbox) -> None:
        self._connection = connection
        self._keys = keys
        self._outbox = outbox

    async def dead_ids(
        self, shop_id: str, *, sink: str | None, since: datetime | None, before: datetime | None
    ) -> list[int]:
        """The dead letters' seqs, ascending."""
        first = "-inf" if since is None else str(ms(since))
        last = "+inf" if before is None else f"({ms(before)}"
        found: list[int] = []
        for shop, name in await self._outbox.lanes():
            if shop == shop_id and sink in {None, name}:
                ages = self._keys.dead(shop, name)
                found += map(int, await self._connection.read("ZRANGEBYSCORE", ages, first, last))
        return sorted(found)

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """One dead letter."""
        found = await self._read(shop_id, [seq])
        return codec.dead_letter(*found[0]) if found else None

    async def replay(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put dead letters back behind what waits."""
        return await self._move(shop_id, seqs, now, again=True)

    async def drop(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Forget dead letters."""
        return await self._move(shop_id, seqs, now, again=False)

    async def _move(self, shop_id: str, seqs: Collection[int], now: datetime, *, again: bool) -> int:
        lanes: dict[str, int] = {}
        moves: list[list[str | int]] = []
        for seq, text in await self._read(shop_id, seqs):
            letter = codec.dead_letter(seq, text)
            over = letter.over
            lane = lanes.setdefault(over.sink, len(lanes) + 1)
            row = codec.row_again(shop_id, letter, now) if again else ""
            moves.append([seq, lane, text, over.key, over.event_id, row])
        if not moves:
            return 0
        keys = [
            self._keys.shop(shop_id).state, self._keys.outbox, self._keys.lines, self._keys.heads,
            self._keys.lanes, self._keys.dead_letters,
        ]  # fmt: skip
        for sink in lanes:
            keys += [
                self._keys.due(sink), self._keys.age(shop_id, sink), self._keys.dead(shop_id, sink),
            ]  # fmt: skip
        what = {"shop": shop_id, "lanes": [codec.lane(shop_id, sink) for sink in lanes], "moves": moves}
        return int(await self._connection.fenced("letters", keys, [ms(now), json.dumps(what)]))

    async def _read(self, shop_id: str, seqs: Collection[int]) -> list[tuple[str, str]]:
        """Seq and text of those that are there and this shop's, ascending."""
        wanted = [str(seq) for seq in sorted(set(seqs))]
        texts = await self._connection.read("HMGET", self._keys.dead_letters, *wanted) if wanted else []
        found = [(seq, text) for seq, text in zip(wanted, texts, strict=True) if text]
        return [(seq, text) for seq, text in found if json.loads(text)["shop"] == shop_id]
