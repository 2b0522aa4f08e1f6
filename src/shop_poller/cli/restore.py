"""The command `restore`: replaces the state of every shop by a backup. The daemon must be stopped.

Take every lock, write each new state beside its file, and verify it. Then, shop by shop, rename it.
"""

import os
import resource
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from sqlite3 import Error as SqliteError
from tempfile import TemporaryFile
from typing import Annotated, BinaryIO, cast

import anyio
import typer

from shop_poller.cli.archive import MOST_SHOWN, ArchiveReader, Manifest, open_regular, reading
from shop_poller.cli.backup import (
    BackupRefusedError,
    BackupReport,
    ShowShopProgress,
    private_file,
    progress,
    redis_layout,
)
from shop_poller.cli.console import (
    Config,
    ShopId,
    Yes,
    agreed,
    load_chosen_shops,
    make_app,
    refused,
    say,
    store_of,
)
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError
from shop_poller.core.known_lines import known
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text
from shop_poller.stores import concurrent_store
from shop_poller.stores.sqlite import backup as files
from shop_poller.stores.sqlite.file import MIGRATIONS, explain, keep_owner, lock_for, restoring

app = make_app()

BackupFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A file that `backup` wrote, or a copy of the database.")
]


@app.command(
    epilog="""\b
Example:
  shop-poller restore shop-poller.tar
Exit codes: 2 settings; 5 state, or FILE is not a backup of it."""
)
def restore(*, file: BackupFile, config: Config = None, shop: ShopId = None, yes: Yes = False) -> None:
    """Replace the state of the shop, or of all shops, by a backup; stop the daemon first."""
    shops = load_chosen_shops(config, shop)
    places = shops[0].state_place
    if len(shops) > 1:
        places = Text("the states of {count:,} shops", count=len(shops))
    if not yes and not agreed(Text("replace {places} by what is in {file}?", places=places, file=file)):
        say(Text("nothing was changed"))
        return
    try:
        with progress(Text("restore"), len(shops)) as show:
            report = anyio.run(partial(restore_states, shops, file, show=show))
    except BackupRefusedError as error:
        raise refused(error.text) from error
    report.show(lambda shops: Text("{shops} restored from {file}", shops=shops, file=file))


async def restore_states(shops: Sequence[Settings], source: Path, *, show: ShowShopProgress) -> BackupReport:
    """Replace states by those of a backup; refused while a daemon runs.

    Args:
        shops: shops of the settings to restore, if the backup has them.
        source: the backup; for one shop also a database.
        show: reports progress.

    Raises:
        PermanentError, TemporaryError: STORE, the file is not a backup of these shops, or a state is in use.
    """
    try:
        with open_regular(source) as file:
            is_database = files.is_database(file)
        if is_database:
            return _restore_database(shops, source)
        with reading(source) as archive:
            return await _restore_archive(shops, source, archive, show)
    except OSError as error:
        raise PermanentError(
            ErrorKind.STORE,
            Text(
                "{path}: {error}; nothing was changed",
                path=error.filename or source,
                error=known(error.strerror or ""),
            ),
        ) from error


async def _restore_archive(
    shops: Sequence[Settings], source: Path, archive: ArchiveReader, show: ShowShopProgress
) -> BackupReport:
    manifest, there = archive.manifest, {shop.shop: shop for shop in shops}
    in_redis = isinstance(shops[0].state, RedisAddress)
    _check_manifest(source, manifest, there.keys(), in_redis=in_redis)
    wanted = [there[shop] for shop in manifest.shops if shop in there]
    report = BackupReport()
    report.left += [
        Text("{shop}: is in the backup, but not in the settings or not named by --shop", shop=shop)
        for shop in manifest.shops
        if shop not in there
    ]
    report.left += [
        Text("{shop}: is not in the backup; its state stays", shop=shop)
        for shop in there
        if shop not in manifest.shops
    ]
    if in_redis:
        await _restore_all_keys(wanted, archive, show, report)
    else:
        _restore_files(wanted, source, archive, show, report)
    return report


def _check_manifest(source: Path, manifest: Manifest, named: Collection[str], *, in_redis: bool) -> None:
    """Refuse a backup that does not fit the settings."""
    if manifest.kind == "redis" and not in_redis:
        raise _no(source, Text("is a backup of a state in Redis, but the settings keep it in a file"))
    if manifest.kind != "redis" and in_redis:
        raise _no(source, Text("is a backup of a state in a file, but the settings keep it in Redis"))
    known = redis_layout() if in_redis else len(MIGRATIONS)
    if manifest.schema > known:
        raise _no(
            source,
            Text(
                "was made by a newer shop-poller ({version}, schema {schema}; this one knows up to {known});"
                " install that version",
                version=manifest.version,
                schema=manifest.schema,
                known=known,
            ),
        )
    if not set(manifest.shops) & set(named):
        raise _no(
            source,
            Text(
                "is a backup of {shops}; the settings name {named}",
                shops=", ".join(list(manifest.shops)[:3]),
                named=", ".join(list(named)[:3]),
            ),
        )


def _restore_files(
    shops: Sequence[Settings],
    source: Path,
    archive: ArchiveReader,
    show: ShowShopProgress,
    report: BackupReport,
) -> None:
    with ExitStack() as stack:
        _raise_limit()
        for shop in shops:
            stack.enter_context(_locked(shop))
        for number, shop in enumerate(shops):
            show(shop.shop, number, len(shops))
            with _explained(shop), _new_state(shop, stack) as to:
                archive.extract(shop.shop, to)
            found = files.verify(restoring(_path(shop)), source)
            if found and shop.shop not in found:  # empty if the shop was never polled
                raise _of_another(source, found, shop)
        for shop in shops:
            _put_in_place(shop, report)


def _restore_database(shops: Sequence[Settings], source: Path) -> BackupReport:
    """Restore a copy that `sqlite3 … .backup` made, or a copy of a state file that was not open."""
    if len(shops) > 1:
        raise _no(source, Text("is a database of one shop; name the shop with --shop"))
    shop = shops[0]
    if isinstance(shop.state, RedisAddress):
        raise _no(source, Text("is a database, but the settings keep the state in Redis"))
    if Path(os.path.realpath(source)) == Path(os.path.realpath(shop.state)):
        raise _no(source, Text("is the state itself"))
    report = BackupReport()
    with ExitStack() as stack:
        stack.enter_context(_locked(shop))
        with _explained(shop), _new_state(shop, stack) as to:
            files.copy_database(source, restoring(shop.state), to)
        found = files.verify(restoring(shop.state), source)
        if shop.shop not in found:
            raise _of_another(source, found, shop)
        _put_in_place(shop, report)
    return report


def _put_in_place(shop: Settings, report: BackupReport) -> None:
    """Rename the new state of one shop. An error does not stop the other shops."""
    try:
        with _explained(shop):
            files.put_in_place(_path(shop))
    except ShopPollerError as error:
        report.failed.append(Text("{shop}: {error}", shop=shop.shop, error=error.text))
    else:
        report.done.append(shop.shop)


@contextmanager
def _explained(shop: Settings) -> Iterator[None]:
    try:
        yield
    except (SqliteError, OSError) as error:
        problem = Text("{problem}; nothing was changed", problem=explain(error, _path(shop)))
        raise PermanentError(ErrorKind.STORE, problem) from error


def _of_another(source: Path, found: Collection[str], shop: Settings) -> PermanentError:
    return _no(
        source,
        Text(
            "is a state of {found}, but the settings name {shop} (SHOP_ID)",
            found=one_line(", ".join(sorted(found)[:3]), MOST_SHOWN) or Text("no shop"),
            shop=shop.shop,
        ),
    )


@contextmanager
def _locked(shop: Settings) -> Iterator[None]:
    """Hold the lock of a shop's state. Create its directory if it is missing."""
    path = _path(shop)
    with _explained(shop):
        missing = [part for part in path.parents if not part.exists()]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.geteuid():
            for part in reversed(missing):
                with suppress(OSError):
                    _give_owner_of_parent(part)
        lock = lock_for(path)
    try:
        yield
    finally:
        os.close(lock)


def _give_owner_of_parent(directory: Path) -> None:
    """Give a directory the owner of its parent."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        keep_owner(number, directory.parent)
    finally:
        os.close(number)


def _new_state(shop: Settings, stack: ExitStack) -> BinaryIO:
    """Open an empty file for the new state. The stack deletes it unless it was renamed."""
    new = restoring(_path(shop))
    new.unlink(missing_ok=True)
    stack.callback(new.unlink, missing_ok=True)
    return private_file(new)


async def _restore_all_keys(
    shops: Sequence[Settings], archive: ArchiveReader, show: ShowShopProgress, report: BackupReport
) -> None:
    for shop in shops:
        if holder := await _leader(shop):
            raise PermanentError(
                ErrorKind.STORE,
                Text(
                    "{holder} holds the lease of {shop}; stop every replica first; nothing was changed",
                    holder=holder,
                    shop=shop.shop,
                ),
            )
    for shop in shops:
        try:
            await _restore_keys(shop, archive, show)
        except ShopPollerError as error:
            report.failed.append(Text("{shop}: {error}", shop=shop.shop, error=error.text))
        else:
            report.done.append(shop.shop)


async def _leader(shop: Settings) -> str:
    async with store_of(shop, concurrent_store) as store:
        return await store.holder()


async def _restore_keys(shop: Settings, archive: ArchiveReader, show: ShowShopProgress) -> None:
    from shop_poller.observability.metrics import Metrics  # noqa: PLC0415 - only this needs it
    from shop_poller.runtime.lease import LeaseKeeper  # noqa: PLC0415
    from shop_poller.stores.redis.backup import StateKeys  # noqa: PLC0415 - it is 10 MB

    keys = StateKeys(cast("RedisAddress", shop.state), prefix=shop.shop_redis_prefix, shop=shop.shop)
    try:
        with TemporaryFile() as content:
            archive.extract(shop.shop, content)
            size, done = content.tell(), 0
            content.seek(0)

            def step(read: int) -> None:
                nonlocal done
                done += read
                show(shop.shop, done, size)

            async def work() -> None:
                await keys.swap(await keys.stage(content, step))

            await LeaseKeeper(keys.store, Metrics(shop.shop, ())).once(work)
    finally:
        await keys.aclose()


def _path(shop: Settings) -> Path:
    return cast("Path", shop.state)


def _raise_limit() -> None:
    """Raise the limit of open files: each shop's lock is an open file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _no(source: Path, why: str) -> PermanentError:
    return PermanentError(ErrorKind.STORE, Text("{file}: {why}; nothing was changed", file=source, why=why))
