"""`backup` and `restore` of a state in Redis: the keys of a shop as a file, and back."""

import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shop_poller.cli import backup, restore
from shop_poller.config.redis_address import RedisAddress, parse_redis
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.ports import Ack, Alert, MoveToDeadLetters
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.backup import STAGED, StateKeys
from support.deliveries import SHOP, T0, batch, claim, known_order, new_deliveries
from support.redis_server import RedisServer, redis_server
from support.stores import shared_valkey

pytestmark = pytest.mark.anyio


@pytest.fixture
def url() -> str:
    return f"redis://127.0.0.1:{shared_valkey().port}/0"


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"{tmp_path}:"


@pytest.fixture
def client(url: str) -> Any:
    with redis.Redis.from_url(url) as client:
        yield client


@pytest.fixture
def shop(url: str, prefix: str) -> Settings:
    return settings(url, prefix)


@pytest.fixture
async def store(url: str, prefix: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(parse_redis(url), prefix=prefix, first_shop=SHOP)
    yield store
    await store.aclose()


def settings(url: str, prefix: str, shop: str = SHOP) -> Settings:
    return Settings.of(
        {
            "woocommerce_mcp_url": "https://shop.example/wp-json/woocommerce/mcp",
            "shop_id": shop,
            "shop_state_url": url,
            "shop_redis_prefix": prefix,
        },
        parse_sink=parse_sink,
    )


async def fill(store: RedisStore, orders: int) -> None:
    """A state with waiting, made and dead deliveries, and an alert."""
    assert await store.take()
    await store.register(SHOP, T0)
    rows = [new_deliveries(sink, str(n), f"{sink}{n}") for n in range(1, orders + 1) for sink in ("A", "B")]
    known = [known_order(n) for n in range(1, orders + 1)]
    await store.commit(SHOP, batch(*rows, known=known))
    taken = await claim(store, "A", limit=2)
    await store.record_outcomes([Ack(taken[0]), MoveToDeadLetters(taken[1], "no")], T0)
    await store.raise_alert(SHOP, Alert("crm", ErrorKind.TIMEOUT, T0), [], T0)
    await store.release()


def dump(client: Any, prefix: str) -> dict[str, Any]:
    """Every key with its type, what is in it, and whether it stays; serialized, equal things may differ."""
    read = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: client.lrange(key, 0, -1),
    }
    keys = sorted(client.scan_iter(f"{prefix.replace('[', '?').replace(']', '?')}*", count=1000))
    return {
        key.decode().removeprefix(prefix): (
            client.type(key),
            read[client.type(key)](key),
            client.ttl(key) == -1,
        )
        for key in keys
        if key.decode() != f"{prefix}lease"
    }


async def back_up(target: Path, *shops: Settings) -> backup.BackupReport:
    return await backup.back_up(shops, target, overwrite=False, show=lambda *_: None)


async def put_back(source: Path, *shops: Settings) -> backup.BackupReport:
    return await restore.restore_states(shops, source, show=lambda *_: None)


async def test_what_is_backed_up_comes_back_key_for_key(
    tmp_path: Path, store: RedisStore, client: Any, url: str, prefix: str
) -> None:
    await fill(store, 5)
    client.set(f"{prefix}known_orders:mine", "of somebody else")
    before = dump(client, prefix)
    assert (await back_up(tmp_path / "b.tar", settings(url, prefix))).done == [SHOP]
    assert dump(client, prefix) == before, "it changes nothing"
    assert await store.take()
    await store.commit(SHOP, batch(new_deliveries("C", "77"), known=[known_order(77)]))
    await store.release()
    assert dump(client, prefix) != before

    assert (await put_back(tmp_path / "b.tar", settings(url, prefix))).done == [SHOP]
    assert dump(client, prefix) == before
    assert not client.exists(f"{prefix}lease"), "others may lead at once"
    assert await store.take()
    assert (await store.stats(SHOP)).known == 5


async def test_every_key_of_a_state_is_saved(
    tmp_path: Path, store: RedisStore, client: Any, url: str, prefix: str
) -> None:
    """A key that somebody adds, and forgets in `Keys.all`, would be missing after a restore."""
    await fill(store, 5)
    before = dump(client, prefix)
    assert len(before) > 15
    await back_up(tmp_path / "b.tar", settings(url, prefix))
    for key in client.scan_iter(f"{prefix}*"):
        client.delete(key)
    await put_back(tmp_path / "b.tar", settings(url, prefix))
    assert dump(client, prefix) == before


async def test_it_goes_under_another_prefix_too(
    tmp_path: Path, store: RedisStore, client: Any, url: str, prefix: str
) -> None:
    await fill(store, 5)
    await back_up(tmp_path / "b.tar", settings(url, prefix))
    await put_back(tmp_path / "b.tar", settings(url, f"other:{{shop}}{prefix}"))
    assert dump(client, f"other:{{shop}}{prefix}") == dump(client, prefix)


async def test_a_time_to_live_is_kept(
    tmp_path: Path, store: RedisStore, client: Any, url: str, prefix: str
) -> None:
    await fill(store, 2)
    client.pexpire(f"{prefix}last_poll_time", 500_000)
    client.set(f"{prefix}last_poll_time", "2026-11-30T18:00:00", px=500_000)
    await back_up(tmp_path / "b.tar", settings(url, prefix))
    client.persist(f"{prefix}last_poll_time")
    await put_back(tmp_path / "b.tar", settings(url, prefix))
    assert 400_000 < client.pttl(f"{prefix}last_poll_time") <= 500_000
    assert client.pttl(f"{prefix}known_orders") == -1


async def test_a_restore_is_refused_while_somebody_leads(
    tmp_path: Path, store: RedisStore, client: Any, url: str, prefix: str
) -> None:
    await fill(store, 3)
    await back_up(tmp_path / "b.tar", settings(url, prefix))
    assert await store.take()
    await store.commit(SHOP, batch(known=[known_order(9)]))
    await back_up(tmp_path / "beside.tar", settings(url, prefix))
    before = dump(client, prefix)
    with pytest.raises(PermanentError, match=r"holds the lease of shop.example; stop every replica"):
        await put_back(tmp_path / "b.tar", settings(url, prefix))
    assert dump(client, prefix) == before


async def test_who_loses_the_lease_in_the_midst_changes_nothing(
    tmp_path: Path, store: RedisStore, client: Any, shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = shop.shop_redis_prefix
    await fill(store, 3)
    await back_up(tmp_path / "b.tar", shop)
    assert await store.take()
    await store.commit(SHOP, batch(known=[known_order(9)]))
    await store.release()
    before = dump(client, prefix)
    stage = StateKeys.stage

    async def slow(self: StateKeys, *args: Any) -> Any:
        found = await stage(self, *args)
        client.set(f"{prefix}lease", "another/1/x")
        return found

    monkeypatch.setattr(StateKeys, "stage", slow)
    report = await put_back(tmp_path / "b.tar", shop)
    assert report.done == []
    assert "another replica has the lease" in report.failed[0]
    after = dump(client, prefix)
    assert {key: value for key, value in after.items() if not key.startswith(STAGED)} == before
    staged = [key for key in after if key.startswith(STAGED)]
    assert staged
    assert all(0 < client.pttl(f"{prefix}{key}") <= 3_600_000 for key in staged), "gone by themselves"


async def test_cut_off_before_any_command_a_restore_leaves_one_state_or_the_other(
    tmp_path: Path, store: RedisStore, client: Any, shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command is a step; what one that is killed has sent is carried out, or not."""
    prefix = shop.shop_redis_prefix
    await fill(store, 3)
    await back_up(tmp_path / "b.tar", shop)
    wanted = dump(client, prefix)
    assert await store.take()
    await store.commit(SHOP, batch(new_deliveries("C", "9"), known=[known_order(9)]))
    await store.release()
    before = dump(client, prefix)
    from shop_poller.stores.redis.connection import RedisConnection  # noqa: PLC0415 - to be patched

    carry_out, step, outcomes = RedisConnection._carry_out, 0, set[bool]()
    while True:
        left = step

        async def cut(self: RedisConnection, command: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                raise TemporaryError(ErrorKind.STORE, "cut off")
            return await carry_out(self, command)

        monkeypatch.setattr(RedisConnection, "_carry_out", cut)
        try:
            report = await put_back(tmp_path / "b.tar", shop)
        except TemporaryError:
            report = backup.BackupReport()
        monkeypatch.setattr(RedisConnection, "_carry_out", carry_out)
        client.delete(f"{prefix}lease")  # it expires by itself
        found = {key: value for key, value in dump(client, prefix).items() if not key.startswith(STAGED)}
        assert found in (before, wanted), f"cut off at step {step}"
        outcomes.add(found == wanted)
        if left >= 0:
            assert report.done == [SHOP]
            break
        step += 1
    assert step > 15
    assert outcomes == {True, False}


def entry(key: str, value: bytes, ttl_ms: int = -1) -> bytes:
    text = base64.b64encode(value).decode()
    return json.dumps({"key": key, "ttl_ms": ttl_ms, "dump": text}).encode() + b"\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{}\n", "has a line that is no key"),
        (b"[" * 100_000 + b"\n", "has a line that is no key"),
        (b"\xff\n", "has a line that is no key"),
        (entry("lease", b"x"), "has a key that is none of ours: 'lease'"),
        (entry("../other", b"x"), "has a key that is none of ours"),
        (entry("known_orders", b"this is no dump"), "(the key known_orders); nothing was changed"),
        (b"", "the backup is of no shop, not of shop.example"),
    ],
    ids=["empty", "deep", "binary", "lease", "other", "no dump", "nothing"],
)
async def test_a_file_that_holds_no_state_changes_nothing(
    store: RedisStore, client: Any, shop: Settings, line: bytes, words: str
) -> None:
    prefix = shop.shop_redis_prefix
    await fill(store, 2)
    before = dump(client, prefix)
    assert isinstance(shop.state, RedisAddress)
    keys = StateKeys(shop.state, prefix=prefix, shop=SHOP)
    try:
        with pytest.raises(PermanentError) as caught:
            await keys.stage(io.BytesIO(line), lambda _: None)
    finally:
        await keys.aclose()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {key: value for key, value in dump(client, prefix).items() if not key.startswith(STAGED)} == before


async def test_a_backup_of_another_shop_or_of_a_file_is_refused(
    tmp_path: Path, store: RedisStore, url: str, prefix: str
) -> None:
    await fill(store, 2)
    await back_up(tmp_path / "b.tar", settings(url, prefix))
    with pytest.raises(PermanentError, match=r"is a backup of shop.example; the settings name other.example"):
        await put_back(tmp_path / "b.tar", settings(url, prefix, "other.example"))
    with pytest.raises(PermanentError, match=r"of a state in Redis, but the settings keep it in a file"):
        await put_back(tmp_path / "b.tar", settings(f"sqlite:///{tmp_path}/state.db", prefix))


async def test_where_nothing_was_polled_there_is_nothing_to_back_up(
    tmp_path: Path, url: str, prefix: str
) -> None:
    with pytest.raises(PermanentError, match="no state yet"):
        await back_up(tmp_path / "b.tar", settings(url, prefix))
    assert not (tmp_path / "b.tar").exists()


async def test_of_several_shops_each_has_its_own_keys(
    tmp_path: Path, client: Any, url: str, prefix: str
) -> None:
    shops = [settings(url, f"{prefix}shops:{name}:", name) for name in ("a", "b")]
    for number, shop in enumerate(shops, 1):
        one = RedisStore(parse_redis(url), prefix=shop.shop_redis_prefix, first_shop=shop.shop)
        assert await one.take()
        await one.register(shop.shop, T0)
        await one.commit(shop.shop, batch(known=[known_order(n) for n in range(number)]))
        await one.aclose()
    before = dump(client, prefix)
    await back_up(tmp_path / "b.tar", *shops)
    client.delete(f"{shops[0].shop_redis_prefix}known_orders", f"{shops[1].shop_redis_prefix}known_orders")
    assert (await put_back(tmp_path / "b.tar", shops[1])).done == ["b"], "one of them"
    assert not client.exists(f"{shops[0].shop_redis_prefix}known_orders")
    assert (await put_back(tmp_path / "b.tar", *shops)).done == ["a", "b"]
    assert dump(client, prefix) == before


ACL = (
    "on >password ~shop:polling:* resetchannels -@all +@hash +@sortedset +@string +@set +@scripting"
    " +@connection +del +exists +persist +pexpire +ttl +type +time +info"
)
FOR_BACKUPS = "+dump +pttl +restore +rename +unlink"


async def test_the_documented_acl_user_is_enough_with_the_rights_for_backups(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text(encoding="utf-8")
    assert f"ACL SETUSER poller {ACL}" in page
    assert f"`{FOR_BACKUPS}`" in page
    with redis_server(tmp_path) as server:
        await _as_user(server, tmp_path, ACL, enough=False)
        await _as_user(server, tmp_path, f"{ACL} {FOR_BACKUPS}", enough=True)


async def _as_user(server: RedisServer, folder: Path, rights: str, *, enough: bool) -> None:
    with server.client as client:
        client.execute_command("ACL", "SETUSER", "poller", *rights.split())
    shop = settings(f"redis://poller:password@127.0.0.1:{server.port}/0", "shop:polling:")
    store = RedisStore(
        parse_redis(f"redis://poller:password@127.0.0.1:{server.port}/0"),
        prefix="shop:polling:",
        first_shop=SHOP,
    )
    await fill(store, 2)
    await store.aclose()
    if enough:
        await back_up(folder / "b.tar", shop)
        assert (await put_back(folder / "b.tar", shop)).done == [SHOP]
    else:
        with pytest.raises(PermanentError, match=r"docs/redis.md"):
            await back_up(folder / "b.tar", shop)


async def test_a_cluster_with_a_hash_tag_is_saved_and_put_back(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--cluster-enabled", "yes") as server:
        with server.client as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        url = f"redis+cluster://127.0.0.1:{server.port}"
        while True:
            with server.client as client:
                if b"cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")).encode():
                    break
        store = RedisStore(parse_redis(url), prefix="{shop}:polling:", first_shop=SHOP)
        await fill(store, 3)
        shop = settings(url, "{shop}:polling:")
        await back_up(tmp_path / "b.tar", shop)
        assert await store.take()
        await store.commit(SHOP, batch(known=[known_order(9)]))
        await store.release()
        await put_back(tmp_path / "b.tar", shop)
        assert await store.take()
        assert (await store.stats(SHOP)).known == 3
        await store.aclose()
