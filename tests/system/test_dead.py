"""`dead` and `deliveries`: what was given up is sent again or dropped, beside the daemon."""

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from support.commands import COMMAND, Finished, environment, wait_until
from support.receivers import Post
from support.redis_server import RedisServer, redis_server
from support.site import Site

WITHIN_S = 30.0
"""The daemon looks every ten seconds whether something was replayed."""


@pytest.fixture
def redis_state(site: Site) -> Iterator[RedisServer]:
    with redis_server(site.home) as server:
        site.settings["SHOP_STATE_URL"] = server.url
        yield server


def refusing(*orders: int) -> Callable[[Post], int]:
    """An answer that refuses these orders for good."""
    return lambda post: 422 if post.source_id in map(str, orders) else 200


def give_up(site: Site, count: int) -> list[int]:
    """So many orders of which the notification becomes a dead letter."""
    orders = [site.shop.create_order("processing") for _ in range(count)]
    site.receiver.answer = refusing(*orders)
    return orders


def listed(site: Site, *args: str) -> list[dict[str, Any]]:
    done = site.run(*args, "--json")
    assert (done.code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.lines]


def dead_orders(site: Site) -> set[str]:
    return {one["key"] for one in listed(site, "dead", "list")}


def three_dead(site: Site) -> list[int]:
    """Three dead letters, and no daemon."""
    orders = give_up(site, 3)
    assert site.once().code == 4
    assert len(listed(site, "dead", "list")) == 3
    return orders


def refused(done: Finished) -> str:
    """Its one complaint."""
    assert (done.code, done.stdout) == (2, "")
    (complaint,) = done.stderr.splitlines()
    return complaint


def replayed_while_the_daemon_runs(site: Site) -> None:
    with site.daemon() as daemon:
        orders = give_up(site, 3)
        wait_until(lambda: len(dead_orders(site)) == 3, "three dead letters")
        site.polled(2)
        first = {post.source_id: post.event_id for post in site.receiver.posts}
        bodies = {post.body for post in site.receiver.posts}
        site.receiver.answer = lambda _: 200
        done = site.run("dead", "replay", "--all")
        assert (done.code, done.lines, done.complaints) == (0, ["replayed 3 of 3"], [])
        assert dead_orders(site) == set()
        site.receiver.wait_for(4, within_s=WITHIN_S)  # with the alert of the first
        wait_until(lambda: not site.status()["sinks"], "everything being acknowledged")
        taken = site.receiver.taken
        assert {post.source_id: post.event_id for post in taken} == first
        assert {post.body for post in taken} == bodies
        assert len(site.receiver.posts) == 7
        made = listed(site, "deliveries", "list")
        assert {one["event_id"] for one in made} == {*first.values()}
        keys = {one["key"] for one in made}
        assert {key for key in keys if not key.startswith("alert:")} == {str(order) for order in orders}
        assert site.run("dead", "replay", "--all").lines == ["there is nothing to replay"]
        assert daemon.logged("polling failed") == []


def test_what_was_given_up_is_sent_again_without_a_restart(site: Site) -> None:
    replayed_while_the_daemon_runs(site)


def test_so_it_is_with_the_state_in_valkey(site: Site, redis_state: RedisServer) -> None:
    replayed_while_the_daemon_runs(site)
    with redis_state.client as client:
        assert client.hlen("shop:polling:dead_letters") == client.zcard("shop:polling:outbox:lines") == 0


def test_a_dead_letter_is_listed_and_shown(site: Site) -> None:
    three_dead(site)
    site.shop.create_order("processing")
    site.once()
    everything = listed(site, "dead", "list")
    assert everything == sorted(everything, key=lambda one: (one["at"], one["id"]), reverse=True)
    assert listed(site, "dead", "list", "--limit", "1") == everything[:1]
    sink = everything[0]["sink"]
    assert listed(site, "dead", "list", "--sink", sink) == everything
    assert listed(site, "dead", "list", "--sink", "nobody") == []
    assert site.run("dead", "list", "--sink", "nobody").code == 2, "it is misspelled"
    one = everything[0]
    line = site.run("dead", "list").lines[0]
    for said in (str(one["id"]), one["at"], sink, one["key"], "shop.order.new", "422"):
        assert said in line
    shown = site.run("dead", "show", str(one["id"]))
    assert shown.code == 0
    plain, brace, body = shown.stdout.partition("{")
    notification = json.loads(brace + body)
    assert (notification["event_id"], notification["source_id"]) == (one["event_id"], one["key"])
    words = dict(re.findall(r"^(\w+(?: \w+)?) {2,}(.+)$", plain, re.MULTILINE))
    assert (words["id"], words["sink"], words["event id"]) == (str(one["id"]), sink, one["event_id"])
    assert words["reason"] == one["reason"]
    assert words["queued"] <= one["at"], (
        "that of a replayed one is when it was replayed: it is not called made"
    )


def test_attempts_are_listed_and_shown_wherever_a_delivery_is(site: Site) -> None:
    site.settings["SHOP_NOTIFY_URLS"] = f"{site.receiver.url}#crm"
    three_dead(site)
    newest = listed(site, "dead", "list")[0]
    assert newest["attempts_made"] == 1
    assert (newest["last_attempt"]["kind"], newest["last_attempt"]["status"]) == ("RejectedError", 422)
    seq = str(newest["id"])
    attempt = re.compile(r"^  (\S+Z)  (\w+) (\d+) in \d+ ms", re.MULTILINE)
    for command in (["dead", "show", seq], ["deliveries", "show", seq]):
        shown = site.run(*command).stdout
        assert [found[1:] for found in attempt.findall(shown)] == [("RejectedError", "422")]
        assert "status       dead\n" in shown

    highest = max(one["id"] for kind in ("dead", "deliveries") for one in listed(site, kind, "list"))
    assert site.run("dead", "replay", "--all").code == 0
    waiting = site.run("deliveries", "show", str(highest + 3))
    assert "status       waiting\n" in waiting.stdout
    assert [found[1:] for found in attempt.findall(waiting.stdout)] == [("RejectedError", "422")]
    site.receiver.answer = lambda _: 200
    assert site.once().code == 0
    delivered = listed(site, "deliveries", "list")
    assert {one["attempts_made"] for one in delivered if one["key"].isdigit()} == {2}
    assert {(one["last_attempt"]["kind"], one["last_attempt"]["status"]) for one in delivered} == {
        ("delivered", 200)
    }
    shown = site.run("deliveries", "show", str(delivered[0]["id"])).stdout
    assert attempt.findall(shown)[-1][1:] == ("delivered", "200")
    assert f"{delivered[0]['id']:>8}  {delivered[0]['at']}" in site.run("deliveries", "list").lines[0]
    assert "there is no delivery 4711; `shop-poller deliveries list`" in refused(
        site.run("deliveries", "show", "4711")
    )


def test_some_are_dropped_and_some_replayed(site: Site) -> None:
    three_dead(site)
    newest, middle, oldest = (str(one["id"]) for one in listed(site, "dead", "list"))
    assert site.run("dead", "drop", newest, newest).lines == ["dropped 1 of 1"]
    assert site.run("dead", "drop", "--older-than", "1").lines == ["there is nothing to drop"]
    assert site.run("dead", "replay", oldest).lines == ["replayed 1 of 1"]
    assert [str(one["id"]) for one in listed(site, "dead", "list")] == [middle]
    site.receiver.answer = lambda _: 200
    assert site.once().lines[-1] == "delivered 1, waiting 0, failed 0"
    sink = listed(site, "dead", "list")[0]["sink"]
    assert site.run("dead", "replay", "--sink", sink, "--newer-than", "1").lines == ["replayed 1 of 1"]
    assert site.once().lines[-1] == "delivered 1, waiting 0, failed 0"


@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_a_choice_that_is_none_is_refused_in_one_line_and_changes_nothing(site: Site, verb: str) -> None:
    three_dead(site)
    before = listed(site, "dead", "list")
    some = str(before[0]["id"])
    assert "which dead letters? name their ids, or" in refused(site.run("dead", verb))
    assert "one of these" in refused(site.run("dead", verb, some, "--all"))
    assert "one of these" in refused(site.run("dead", verb, "--all", "--sink", "A"))
    assert "there is no dead letter 4711; `shop-poller dead list`" in refused(
        site.run("dead", verb, some, "4711")
    )
    assert listed(site, "dead", "list") == before


@pytest.mark.parametrize(
    "command", ["dead list", "dead list --json", "dead show 1", "deliveries list", "deliveries tail"]
)
def test_a_reader_that_has_enough_ends_it_quietly(site: Site, command: str) -> None:
    site.shop.create_order("processing")
    assert site.once().code == 0
    with closing(sqlite3.connect(site.state)) as db, db:
        db.execute(
            "INSERT INTO dead_letters SELECT seq, shop_id, sink, key, event_id, event_type, body, created_at,"
            " attempts, delivered_at, 'no', NULL, attempt_log FROM delivered"
        )
    script = f'("{COMMAND}" {command}; echo "ended with $?" >&2) | true'
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=site.home,
        env=environment(site.home, site.environment()),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.decode() == "ended with 0\n"


def test_a_missing_dead_letter_is_reported_in_one_line(site: Site) -> None:
    assert site.once().code == 0
    assert "there is no dead letter 7" in refused(site.run("dead", "show", "7"))


@pytest.mark.parametrize("args", [["dead", "list"], ["dead", "drop", "--all"], ["deliveries", "list"]])
def test_without_a_state_there_is_nothing_to_look_at(site: Site, args: list[str]) -> None:
    done = site.run(*args)
    assert (done.code, done.stdout) == (5, "")
    assert done.complaints == [f"shop-poller: {site.state}: no state yet; `shop-poller run` makes it"]


def test_a_sink_that_nobody_names_any_more_is_told(site: Site) -> None:
    three_dead(site)
    done = site.run("dead", "replay", "--all", SHOP_NOTIFY_URLS="console:")
    assert (done.code, done.lines) == (0, ["replayed 3 of 3"])
    (complaint,) = done.complaints
    assert "which SHOP_NOTIFY_URLS does not name" in complaint


@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_a_sink_that_there_never_was_is_refused_by_those_that_there_are(site: Site, verb: str) -> None:
    three_dead(site)
    (sink,) = {one["sink"] for one in listed(site, "dead", "list")}
    complaint = refused(site.run("dead", verb, "--sink", "typo", SHOP_NOTIFY_URLS="console:#other"))
    assert complaint.endswith(
        f"no sink is named 'typo' in the settings or in dead letters; known sinks: {sink}, other"
    )
    done = site.run("dead", verb, "--sink", "other", SHOP_NOTIFY_URLS="console:#other")
    assert (done.code, done.lines) == (0, [f"there is nothing to {verb}"])


def without_input(site: Site, *args: str) -> Finished:
    """Run it with its standard input closed."""
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" "$@" <&-', str(COMMAND), *args],
        cwd=site.home,
        env=environment(site.home, site.environment()),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_without_a_terminal_many_are_dropped_only_if_that_is_said(site: Site) -> None:
    three_dead(site)
    for done in (site.run("dead", "drop", "--all"), without_input(site, "dead", "drop", "--all")):
        assert "this would delete 3 dead letters; add --yes" in refused(done)
    assert without_input(site, "dead", "replay", "--all").lines == ["replayed 3 of 3"]
    assert site.once().code == 4
    assert without_input(site, "dead", "drop", "--all", "--yes").lines == ["dropped 3 of 3"]


@pytest.mark.parametrize(
    ("answer", "says", "left", "code"),
    [
        (b"n\n", "nothing was changed", 3, 0),
        (b"\n", "nothing was changed", 3, 0),
        (b"\x04", "nothing was changed", 3, 0),
        (b"y\n", "dropped 3 of 3", 0, 0),
        (b"\x03", "", 3, 130),
    ],
    ids=["no", "nothing", "Ctrl-D", "yes", "Ctrl-C"],
)
def test_on_a_terminal_it_asks_before_many(
    site: Site, answer: bytes, says: str, left: int, code: int
) -> None:
    three_dead(site)
    env = environment(site.home, site.environment(TERM="dumb"))
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.chdir(site.home)
        os.execve(COMMAND, [str(COMMAND), "dead", "drop", "--all"], env)  # noqa: S606 - our own command
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
            if shown.endswith(b"[y/N]: "):
                os.write(terminal, answer)
    except OSError:  # the terminal has nobody on the other side any more
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert "drop 3 dead letters? [y/N]:" in shown.decode()
    assert says in shown.decode()
    assert len(listed(site, "dead", "list")) == left


def test_deliveries_are_followed_as_they_are_made(site: Site) -> None:
    early = [site.shop.create_order("processing") for _ in range(12)]
    assert site.once().code == 0
    with site.daemon(), site.start("deliveries", "tail", "--json") as following:

        def told() -> list[str]:
            return [json.loads(line)["key"] for line in following.stdout.splitlines()]

        wait_until(lambda: len(told()) == 10, "the last ten")
        assert set(told()) < {str(order) for order in early}
        fresh = [site.shop.create_order("processing") for _ in range(3)]
        wait_until(lambda: len(told()) == 13, "what was delivered meanwhile")
        assert set(told()[10:]) == {str(order) for order in fresh}
        assert following.stop(signal.SIGINT) == 0
        assert following.stderr == ""


def test_a_list_for_a_sink_that_nobody_has_is_refused_and_not_empty(site: Site) -> None:
    site.settings["SHOP_NOTIFY_URLS"] = f"{site.receiver.url}#crm"
    assert site.once().code == 0
    unknown = ["shop-poller: no sink is named 'crmm' in the settings; known sinks: crm"]
    for args in ("deliveries list", "deliveries tail", "dead list"):
        done = site.run(*args.split(), "--sink", "crmm")
        assert (done.code, done.complaints) == (2, unknown), args
    assert site.run("deliveries", "list", "--sink", "crm").lines == ["nothing has been delivered yet"]


def test_what_is_no_date_is_told_how_dates_are_written(site: Site) -> None:
    for wrong in ("2026-11-31", "yesterday", "24.11.2026"):
        done = site.run("replay", "--since", wrong)
        assert done.code == 2
        assert done.stderr.endswith(
            "'--since': is no date or time; write it as 2026-11-01 or 2026-11-24T18:00\n"
        )
    assert site.run("replay", "--since", "2026-11-24T18:00", "--dry-run").code == 5  # there is no state yet
