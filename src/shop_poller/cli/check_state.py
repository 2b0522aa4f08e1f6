"""Whether the daemon can use its state: a file, or Redis. Part of `check`."""

import os
import shutil
from pathlib import Path

import anyio

from shop_poller.cli.check_result import CheckResult
from shop_poller.clock import now
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.clocks import Whose, described, trouble
from shop_poller.core.errors import PermanentError, ShopPollerError
from shop_poller.core.translatable import Text, joined
from shop_poller.ports import ShopState
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.stores.sqlite.file import check_lock, explain

CLOCK_TOLERANCE_S = 60.0
LEAST_FREE_MB = 100
STATE = Text("state")


async def check_state(settings: Settings) -> CheckResult:
    """Check the state of a shop; changes nothing."""
    if isinstance(settings.state, RedisAddress):
        return await _check_redis(settings, settings.state)
    return await _check_file(settings, settings.state)


async def _check_redis(settings: Settings, address: RedisAddress) -> CheckResult:
    from shop_poller.stores.redis import RedisStore  # noqa: PLC0415 - it is 10 MB

    store = RedisStore(address, prefix=settings.shop_redis_prefix, first_shop=settings.shop)
    try:
        found = Text("{address} {finding}", address=address.shown, finding=await store.check())
        off_s = (store.now() - now()).total_seconds()
        if abs(off_s) > CLOCK_TOLERANCE_S:
            by = described(off_s)
            side = Text("{by} ahead of ours", by=by) if off_s > 0 else Text("{by} behind ours", by=by)
            found = Text(
                "{found}; its clock, which dates what is stored, is {side}: set both by NTP",
                found=found,
                side=side,
            )
        return CheckResult("state", STATE, found)
    except ShopPollerError as error:
        return CheckResult("state", STATE, error.text, ok=False)
    finally:
        await store.aclose()


async def _check_file(settings: Settings, path: Path) -> CheckResult:
    state: ShopState | None = None
    if await anyio.Path(path).exists():
        try:
            store = await SqliteStore.peek(path)
            state = await store.load(settings.shop)
            await store.aclose()
        except ShopPollerError as error:
            return CheckResult("state", STATE, error.text, ok=False)
    try:
        check_lock(path)
    except PermanentError as error:
        return CheckResult("state", STATE, error.text, ok=False)
    except OSError as error:
        return CheckResult("state", STATE, explain(error, path), ok=False)
    nearest = _nearest_existing(path)
    if not os.access(nearest, os.W_OK):
        text = Text(
            "{path}: this user may not write to {nearest}; check who owns it, or set SHOP_STATE_URL",
            path=path,
            nearest=nearest,
        )
        return CheckResult("state", STATE, text, ok=False)
    free_mb = shutil.disk_usage(nearest).free // 2**20
    if free_mb < LEAST_FREE_MB:
        text = Text("{path}: only {free} MB free on its disk; free some space", path=path, free=free_mb)
        return CheckResult("state", STATE, text, ok=False)
    stored = [state.last_poll_at] if state is not None else []
    clock = trouble(Whose.OURS, now=now(), behind_shop_s=None, stored=stored)
    text = Text("{path} can be written, {free:,} MB free", path=path, free=free_mb)
    return CheckResult("state", STATE, joined("; ", [text, clock.text()]) if clock else text)


def _nearest_existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
