"""What a shop, a buyer or an old state wrote moves no cursor, forges no line and turns no direction."""

import json
import re
import sqlite3
import unicodedata
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from shop_poller.simulator import faults
from shop_poller.simulator.answers import Answer, Request, page
from shop_poller.simulator.faults import Fault, Handler
from support.commands import Finished, wait_until
from support.receivers import Post
from support.site import Site

FORGED = "all is well, says the forger"
ODD = f"x\x1b[2K\r\n{FORGED}\u2028\u2029\x85\x9b2J\u202e\u2066\u200f\u200b\U000e0041"
SINCE = (datetime.now(UTC) - timedelta(days=2)).strftime("%Y-%m-%d")


def is_tame(text: str) -> bool:
    return not any(
        unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in text.replace("\n", "")
    )


def checked(done: Finished) -> Finished:
    for text in (done.stdout, done.stderr):
        assert is_tame(text), ascii(text)
        assert not re.search(rf"^\W*{FORGED}", text, re.MULTILINE)
    return done


def an_odd_order(site: Site) -> int:
    order = site.shop.create_order("processing")
    site.shop.distort(
        order,
        faults.with_values(
            status=f"st{ODD}"[:55],
            number=f"no{ODD}"[:50],
            currency=f"c{ODD}"[:9],
            currency_symbol=f"s{ODD}"[:18],
            billing={"first_name": f"Anna{ODD}"},
        ),
    )
    return order


COMMANDS = (
    ["status"],
    ["status", "--json"],
    ["audit", "--since", SINCE],
    ["audit", "--since", SINCE, "--json"],
    ["dead", "list"],
    ["dead", "list", "--json"],
    ["dead", "show", "1"],
    ["deliveries", "show", "1"],
    ["deliveries", "list"],
    ["deliveries", "list", "--json"],
    ["replay", "--since", SINCE, "--dry-run"],
    ["shops", "list"],
    ["run", "--once", "--dry-run"],
)


def test_no_command_prints_what_a_terminal_obeys(site: Site) -> None:
    an_odd_order(site)
    site.shop.create_order("processing")
    site.receiver.answer = lambda _: 422
    checked(site.once())
    for args in COMMANDS:
        checked(site.run(*args))
    posts: list[Post] = site.receiver.posts
    assert len([post for post in posts if post.event == "new"]) == 2
    for post in posts:
        said = json.dumps(post.notification, ensure_ascii=False)
        assert is_tame(said), ascii(said)
        assert "\\u00" not in said
        assert "\\n" not in said


def test_what_is_in_the_state_already_is_not_obeyed_either(site: Site) -> None:
    """As a version wrote it that was not so careful."""
    order = site.shop.create_order("processing")
    site.receiver.answer = lambda _: 422
    site.once()
    with closing(sqlite3.connect(site.state)) as db, db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        changed = 0
        for table in names:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for column in {"status", "reason", "body"} & {*columns}:
                for (value,) in db.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():  # noqa: S608
                    odd = f"{value}{ODD}"
                    if column == "body":
                        odd = json.dumps(json.loads(value) | {"title": ODD}, ensure_ascii=False)
                    if value:
                        db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (odd, value))  # noqa: S608
                        changed += 1
    assert changed >= 2
    for args in COMMANDS[:-1]:
        done = checked(site.run(*args))
        assert "Traceback" not in done.stderr
    shown = checked(site.run("dead", "show", "1")).stdout
    assert FORGED in shown
    assert order


def test_neither_the_page_nor_the_log_has_it(site: Site) -> None:
    an_odd_order(site)
    site.receiver.answer = lambda _: 422
    with site.daemon(SHOP_LOG_LEVEL="debug") as daemon:
        wait_until(lambda: "1001" in daemon.get("/").text, "the order on the page")
        pages = [daemon.get(path).text for path in ("/", "/metrics")]
    for text in (*pages, daemon.stderr, daemon.stdout):
        assert is_tame(text), ascii(text)
        assert not re.search(rf"^\W*{FORGED}", text, re.MULTILINE)


@pytest.mark.parametrize("said", [ODD, f'{{"code": "x_y", "message": {json.dumps(ODD)}}}'])
def test_neither_has_what_a_shop_answers(site: Site, said: str) -> None:
    def act(_: Request, __: Handler) -> Answer:
        return page(500, "No", said)

    site.served.faults.add(Fault("odd", act))
    for args in (["run", "--once"], ["check"], ["status"]):
        checked(site.run(*args))
