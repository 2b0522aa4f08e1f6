"""`state check` and `state aside`; and a daemon on a state that is damaged."""

import json
import sqlite3
from contextlib import closing

import pytest

from support.site import SHOP_ID, Site

SECRET = "Ольга-из-записи"


def spoil(site: Site, *statements: str) -> None:
    with closing(sqlite3.connect(site.state)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def test_a_check_reports_a_repair_repairs_and_a_copy_is_kept(site: Site) -> None:
    site.shop.create_order("processing")
    assert site.once().code == 0
    done = site.run("state", "check")
    assert (done.code, done.lines) == (0, [f"ok    {SHOP_ID}: nothing is damaged"])

    spoil(site, "UPDATE shops SET cursor_at = -5", f"UPDATE known_orders SET decided = '{SECRET}'")  # noqa: S608
    for _ in range(2):
        done = site.run("state", "check")
        *findings, note = done.lines
        assert (done.code, len(findings)) == (5, 2)
        assert all(line.startswith(f"FAIL  {SHOP_ID}: ") for line in findings)
        assert note == f"note  {SHOP_ID}: stop the daemon and run `shop-poller state check --repair`"
        assert SECRET not in done.stdout + done.stderr
    found = json.loads(site.run("state", "check", "--json").stdout)
    assert [one["place"] for one in found["findings"]] == ["shops", "known_orders"]
    assert (found["repaired"], found["rows_set_aside"]) == (False, [])

    done = site.run("state", "check", "--repair")
    assert done.code == 0
    assert [line.split()[0] for line in done.lines] == ["done", "done", "note"]
    assert site.run("state", "check").code == 0
    assert [one["place"] for one in site.status()["rows_set_aside"]] == ["known_orders", "shops"]

    done = site.run("state", "aside")
    assert (done.code, len(done.lines)) == (0, 2)
    assert SECRET not in done.stdout
    assert json.loads(site.run("state", "aside", "--json", "--forget").stdout)["rows_set_aside"]
    assert site.run("state", "aside").lines == [f"{SHOP_ID}: no row is set aside"]


def test_while_the_daemon_runs_a_check_is_made_and_a_repair_refused(site: Site) -> None:
    with site.daemon() as daemon:
        site.polled(1)
        assert site.run("state", "check").code == 0
        done = site.run("state", "check", "--repair")
        assert done.code == 5
        (line,) = done.lines
        assert "in use" in line
        assert daemon.alive


def test_a_daemon_on_a_damaged_row_polls_and_says_so(site: Site) -> None:
    assert site.once().code == 0
    spoil(site, "UPDATE shops SET cursor_at = 253402300799999")
    with site.daemon() as daemon:
        daemon.wait_for("a stored row is damaged; a copy of it is set aside and work continues")
        site.polled(1)
        assert daemon.metric("shop_rows_set_aside", shop=SHOP_ID) == 1
    assert site.status()["rows_set_aside"][0]["place"] == "shops"


@pytest.mark.parametrize("damage", ["no database", "a page", "a table"])
def test_a_state_that_is_beyond_use_ends_with_exit_code_5_and_what_to_do(site: Site, damage: str) -> None:
    site.shop.create_order("processing")
    assert site.once().code == 0
    if damage == "no database":
        site.state.write_bytes(b"x" * 8192)
    elif damage == "a table":
        spoil(site, "DROP TABLE shops")
    else:
        raw = bytearray(site.state.read_bytes())
        raw[4096:] = b"\xff" * (len(raw) - 4096)
        site.state.write_bytes(raw)
    for args in (["run"], ["run", "--once"], ["status"], ["state", "check"], ["state", "check", "--repair"]):
        done = site.run(*args)
        assert done.code == 5, (args, done.stderr)
        assert "Traceback" not in done.stderr
        said = done.stdout + done.stderr
        assert "restore a backup" in said
        assert "start over" in said


def test_where_there_is_no_state_nothing_is_made(site: Site) -> None:
    for args in (["state", "check"], ["state", "check", "--repair"], ["state", "aside"]):
        done = site.run(*args)
        assert done.code == 5
        assert "no state yet" in done.stdout + done.stderr
    assert not site.state.parent.exists()
