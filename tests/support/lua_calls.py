"""Counts what scripts and commands touch in a fake server; bounded is what does not grow with the rows there.

A touch is a call, an argument of a call, or a member of its answer; of a command that reads or drops a whole
key (DEL, say), also what lies in that key.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fakeredis.commands_mixins.scripting_mixin import ScriptingCommandsMixin

from shop_poller.stores.redis import RedisStore

WHOLE = {"DEL", "UNLINK", "HKEYS", "HVALS", "HGETALL", "SMEMBERS", "RENAME", "SORT", "KEYS"}


def size(answer: Any) -> int:
    """How many parts an answer has."""
    if isinstance(answer, dict):
        return 2 * len(answer)
    if isinstance(answer, list | tuple | set):
        return sum(size(one) for one in answer)
    return 1


class Touched:
    """What was touched, by the script's or the command's name; the most of each by one run of it."""

    def __init__(self) -> None:
        self.scripts: dict[str, int] = defaultdict(int)
        self.commands: dict[str, int] = defaultdict(int)


@contextmanager
def touched(store: RedisStore) -> Iterator[Touched]:
    """Counts until the block ends; the store is one over a fake server."""
    found, current = Touched(), [0]
    connection = store._connection
    call, read, inner = connection.call, connection.read, ScriptingCommandsMixin._lua_redis_call

    async def calling(script: str, keys: Any, args: Any) -> Any:
        current[0] = 0
        try:
            return await call(script, keys, args)
        finally:
            found.scripts[script] = max(found.scripts[script], current[0])

    async def reading(*command: str | int) -> Any:
        answer = await read(*command)
        name = str(command[0])
        found.commands[name] = max(found.commands[name], len(command) + size(answer))
        return answer

    def touching(self: Any, runtime: Any, globals_: Any, op: bytes, *args: Any) -> Any:
        name = op.decode().upper()
        if name in WHOLE and args:
            item = self._db.get(args[0] if isinstance(args[0], bytes) else str(args[0]).encode())
            current[0] += len(item.value) if item is not None and hasattr(item.value, "__len__") else 0
        answer = inner(self, runtime, globals_, op, *args)
        current[0] += 1 + len(args) + (len(answer) if hasattr(answer, "keys") else 0)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "call", calling)
        patch.setattr(connection, "read", reading)
        patch.setattr(ScriptingCommandsMixin, "_lua_redis_call", touching)
        yield found
