"""`replay`: what was delivered is sent again, beside the daemon, by a receiver that lost it."""

import json
import os
import pty
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.commands import COMMAND, environment, wait_until
from support.redis_server import redis_server
from support.site import Site

SINCE = (datetime.now(UTC) - timedelta(days=2)).strftime("%Y-%m-%d")
WITHIN_S = 30.0
"""The daemon looks every ten seconds whether something was put back."""


def made(site: Site) -> list[dict[str, Any]]:
    done = site.run("deliveries", "list", "--json", "--limit", "5000")
    assert (done.code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.lines]


def three_delivered(site: Site) -> list[int]:
    """Three deliveries that were made, and no daemon."""
    orders = [site.shop.create_order("processing") for _ in range(3)]
    assert site.once().lines[-1] == "delivered 3, waiting 0, failed 0"
    return orders


def replayed_while_the_daemon_runs(site: Site) -> None:
    with site.daemon() as daemon:
        order, other = site.shop.create_order("processing"), site.shop.create_order("processing")
        site.receiver.wait_for(2)
        site.shop.set_status(order, "cancelled")
        site.receiver.wait_for(3)
        wait_until(lambda: len(made(site)) == 3 and not site.status()["sinks"], "acks")
        before = list(site.receiver.posts)
        done = site.run("replay", "--since", SINCE)
        assert (done.code, done.lines, done.complaints) == (0, ["replayed 3 of 3"], [])
        site.receiver.wait_for(6, within_s=WITHIN_S)
        wait_until(lambda: len(made(site)) == 3 and not site.status()["sinks"], "acks")
        again = site.receiver.posts[3:]
        assert sorted(post.body for post in again) == sorted(post.body for post in before)
        assert {post.event_id for post in again} == {post.event_id for post in before}
        of_one = [
            [post.event_id for post in posts if post.source_id == str(order)] for posts in (before, again)
        ]
        assert len(of_one[0]) == 2
        assert of_one[0] == of_one[1], "new first, then cancelled"
        assert {one["key"] for one in made(site)} == {str(order), str(other)}
        assert len({one["event_id"] for one in made(site)}) == 3
        assert site.run("audit", "--since", SINCE).last == "everything accounted for: 2 orders"
        site.shop.set_status(other, "cancelled")
        site.receiver.wait_for(7)
        assert daemon.logged("polling failed") == []


def test_what_was_delivered_is_sent_again_without_a_restart(site: Site) -> None:
    replayed_while_the_daemon_runs(site)


def test_so_it_is_with_the_state_in_valkey(site: Site) -> None:
    with redis_server(site.home) as server:
        site.settings["SHOP_STATE_URL"] = server.url
        replayed_while_the_daemon_runs(site)
        with server.client as client:
            assert client.zcard("shop:polling:outbox:lines") == 0
            assert client.hlen("shop:polling:delivered") == client.hlen("shop:polling:delivered:texts") == 4


def test_it_is_chosen_and_looked_at_before(site: Site) -> None:
    orders = three_delivered(site)
    site.shop.set_status(orders[0], "cancelled")
    assert site.once().code == 0
    before = site.files()
    done = site.run("replay", "--since", SINCE, "--dry-run")
    assert (done.code, done.last) == (0, "would send 4 again; changed nothing")
    assert [line.split()[3] for line in done.lines[:-1]][-1] == str(orders[0])
    assert done.lines[3].split()[4] == "shop.order.cancelled"
    assert site.files()["shop-poller.db"] == before["shop-poller.db"]
    done = site.run("replay", "--since", SINCE, "--event", "cancelled", "--dry-run")
    assert done.last == "would send 1 again; changed nothing"
    assert site.run("replay", "--since", SINCE, "--until", SINCE + "T00:00:01", "--dry-run").lines == [
        "would send 0 again; changed nothing"
    ]
    # Instants may be copied from what `deliveries list` prints.
    newest = made(site)[0]["at"]
    assert site.run("replay", "--since", newest).lines == ["replayed 1 of 1"]
    assert site.run("replay", "--since", SINCE, "--until", newest).lines == ["replayed 3 of 3"]
    assert site.run("replay", "--since", SINCE).lines == ["there is nothing to replay"]
    assert site.once().lines[-1] == "delivered 4, waiting 0, failed 0"
    assert Counter(post.event_id for post in site.receiver.posts).most_common()[-1][1] == 2


def test_what_was_delivered_before_texts_were_kept_is_told(site: Site) -> None:
    three_delivered(site)
    with closing(sqlite3.connect(site.state)) as db, db:
        db.execute("UPDATE delivered SET body = NULL WHERE seq < (SELECT max(seq) FROM delivered)")
    done = site.run("replay", "--since", SINCE)
    assert (done.code, done.lines) == (0, ["replayed 1 of 1"])
    assert done.complaints == [
        "shop-poller: 2 cannot be sent again: an older version delivered them without keeping a copy"
    ]


def test_what_went_to_a_sink_that_nobody_names_is_left_alone(site: Site) -> None:
    three_delivered(site)
    done = site.run("replay", "--since", SINCE, SHOP_NOTIFY_URLS="console:")
    assert (done.code, done.lines) == (0, ["there is nothing to replay"])
    (complaint,) = done.complaints
    assert "skipped: deliveries to" in complaint
    assert "which SHOP_NOTIFY_URLS does not name" in complaint
    assert len(made(site)) == 3


def test_one_that_is_killed_in_the_middle_loses_and_doubles_nothing(site: Site) -> None:
    three_delivered(site)
    with closing(sqlite3.connect(site.state)) as db, db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)"
            " INSERT INTO delivered SELECT seq + i * 10, shop_id, sink, key || i, event_id || i, event_type,"
            " created_at, attempts, delivered_at, body, first_seq, attempt_log"
            " FROM n, (SELECT * FROM delivered ORDER BY seq LIMIT 1)"
        )
        db.execute("UPDATE sqlite_sequence SET seq = 99999 WHERE name = 'outbox'")

    def waiting() -> int:
        with closing(sqlite3.connect(site.state)) as db:
            return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    started_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with site.start("replay", "--since", SINCE) as running:
        wait_until(lambda: waiting() > 0, "the first commits")
        running.process.kill()
        running.wait()
    with closing(sqlite3.connect(site.state)) as db:
        (left,) = db.execute("SELECT count(*) FROM delivered").fetchone()
    moved = waiting()
    assert moved + left == 4003
    assert 0 < moved < 4003
    assert site.run("replay", "--since", SINCE, "--until", started_at).lines == [
        f"replayed {left:,} of {left:,}"
    ]
    with closing(sqlite3.connect(site.state)) as db:
        assert db.execute("SELECT count(*), count(DISTINCT event_id) FROM outbox").fetchone() == (4003, 4003)


def test_who_is_cut_off_is_told_how_to_go_on(site: Site) -> None:
    three_delivered(site)
    with closing(sqlite3.connect(site.state)) as db, db:
        db.execute(
            "CREATE TRIGGER fails BEFORE DELETE ON delivered BEGIN SELECT raise(ABORT, 'disk I/O error'); END"
        )
    before = datetime.now(UTC)
    done = site.run("replay", "--since", SINCE)
    assert (done.code, done.stdout) == (5, "")
    told, why = done.complaints
    assert told.startswith("shop-poller: replayed 0 of 3, perhaps a few more; to resume, run it again with")
    until = told.rpartition(" --until ")[2]
    assert datetime.fromisoformat(until) > before - timedelta(seconds=1)
    assert "disk I/O error" in why
    with closing(sqlite3.connect(site.state)) as db, db:
        db.execute("DROP TRIGGER fails")
    assert site.run("replay", "--since", SINCE, "--until", until).lines == ["replayed 3 of 3"]


def test_what_a_user_can_get_wrong(site: Site) -> None:
    done = site.run("replay", "--since", SINCE)
    assert (done.code, done.stdout) == (5, "")
    assert done.complaints == [f"shop-poller: {site.state}: no state yet; `shop-poller run` makes it"]
    three_delivered(site)
    for args, says in (
        ([], "--since"),
        (["--since", "2999-01-01"], "is in the future"),
        (["--since", SINCE, "--until", SINCE], "is not after --since"),
        (["--since", SINCE, "--event", "news"], "there is no event 'news'; there are "),
    ):
        done = site.run("replay", *args)
        assert (done.code, done.stdout) == (2, "")
        assert says in done.stderr
    assert len(made(site)) == 3


@pytest.mark.parametrize(
    ("answer", "says", "left"), [("n", "nothing was changed", 3), ("y", "replayed 3 of 3", 0)]
)
def test_on_a_terminal_it_asks_and_shows_how_far_it_is(site: Site, answer: str, says: str, left: int) -> None:
    three_delivered(site)
    env = environment(site.home, site.environment(TERM="dumb"))
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.chdir(site.home)
        os.execve(COMMAND, [str(COMMAND), "replay", "--since", SINCE], env)  # noqa: S606 - our own command
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
            if shown.endswith(b"[y/N]: "):
                os.write(terminal, answer.encode() + b"\n")
    except OSError:  # the terminal has nobody on the other side any more
        pass
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0
    assert "send 3 deliveries again? [y/N]:" in shown.decode()
    assert says in shown.decode()
    assert ("3/3" in shown.decode()) is (answer == "y")
    assert len(made(site)) == left
