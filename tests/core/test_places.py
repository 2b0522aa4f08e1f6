"""Where the state of each of several shops lies."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.config.shops import NAME, file_apart, keys_apart
from shop_poller.stores.redis.keys import Keys

ids = st.from_regex(NAME, fullmatch=True)
prefixes = st.sampled_from(["shop:polling:", "x", "{shop}:polling:", "a:{b}:c:{d}:"])


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("shop:polling:", "shop:polling:shops:honey:"),
        ("{shop}:polling:", "{shop:honey}:polling:"),  # a slot of its own
        ("a:{b}:{c}:", "a:{b:honey}:{c}:"),  # the first tag is the one that counts
    ],
)
def test_a_shop_has_keys_of_its_own(prefix: str, expected: str) -> None:
    assert keys_apart(prefix, "honey") == expected


def keys(prefix: str) -> set[str]:
    """Every key of a shop with this prefix that does not depend on a sink's name."""
    names = Keys(prefix, "first")

    def own(of: object) -> set[str]:
        return {getattr(of, name) for name, kind in vars(type(of)).items() if isinstance(kind, property)}

    return own(names) | own(names.shop("first"))


@given(prefixes, ids, ids)
def test_no_two_shops_have_a_key_in_common_nor_one_with_the_shop_that_was_alone(
    prefix: str, one: str, other: str
) -> None:
    mine = keys_apart(prefix, one)
    assert len(keys(mine)) > 10
    assert not any(key.startswith(mine) for key in keys(prefix))
    if one != other:
        assert not any(key.startswith(mine) for key in keys(keys_apart(prefix, other)))


@given(ids, ids)
def test_every_shop_has_a_file_of_its_own_in_one_directory(one: str, other: str) -> None:
    alone = Path("/var/lib/shop-poller/shop-poller.db")
    mine, theirs = file_apart(alone, one), file_apart(alone, other)
    assert mine.parent == Path("/var/lib/shop-poller/shop-poller.db.shops") == theirs.parent
    assert (mine == theirs) == (one == other)
    # Beside each file SQLite has others, and we a lock: none of them is the file of another shop.
    assert not any(f"{mine}{end}" == str(theirs) for end in ("-wal", "-shm", ".lock"))
