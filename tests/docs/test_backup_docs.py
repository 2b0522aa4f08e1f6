"""What operations.md shows of backups is what happens."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.site import Site, site_at

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_at(tmp_path) as site:
        yield site


def test_the_examples_of_backup_and_restore_do_and_say_what_is_shown(site: Site) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Backup and restore\n")[2].partition("\n## ")[0]
    lines = [line.strip() for line in re.findall(r"^    (.+)$", section, re.MULTILINE)]
    commands = [line for line in lines if line.startswith("shop-poller ")]
    assert commands == ["shop-poller backup shop-poller.tar", "shop-poller restore shop-poller.tar"]
    site.settings["SHOP_ID"] = "shop.example"
    assert site.once().code == 0
    for command in commands:
        done = site.run(*shlex.split(command)[1:])
        shown = lines[lines.index(command) + 1 :]
        assert (done.code, done.stderr) == (0, "")
        assert done.stdout.strip() in shown
    assert re.search(r"`(shop-poller backup - \| gzip > \S+)`", section)
