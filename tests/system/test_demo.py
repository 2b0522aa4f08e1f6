"""`demo`: every kind of event comes, word by word; it ends by itself or by Ctrl-C, and leaves nothing."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import run_command, started, wait_until
from support.stories import Stories, watched_demo

TOLD = re.compile(r"\d\d:\d\d:\d\d (?P<mark>.) (?P<text>[^|]+?)(?: \|.*)?")
AMOUNT = r"([0-9 ]+(?:,\d\d)?) ₽"
TEXTS = {
    "new": ("+", rf"Новый заказ №(\d+) · {AMOUNT} · \w+"),
    "cancelled": ("!", rf"Заказ №(\d+) отменён · {AMOUNT} · \w+"),
    "refunded": ("!", rf"Возврат по заказу №(\d+) · {AMOUNT} из [0-9 ,]+ ₽ · \w+"),
    "failed": ("x", rf"Оплата заказа №(\d+) не прошла · {AMOUNT} · \w+"),
    "partially_refunded": ("!", rf"Возврат {AMOUNT} из [0-9 ,]+ ₽ · заказ №(\d+) · \w+"),
}


@pytest.fixture
def left_behind(tmp_path: Path) -> Iterator[Path]:
    """Where a demo that cleans up after itself leaves nothing."""
    yield tmp_path / "tmp"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / ".local").exists()


def test_every_kind_of_event_comes_word_by_word(stories: Stories) -> None:
    demo = stories.end_of(watched_demo)
    assert (demo.code, demo.stderr) == (0, "")
    assert demo.metrics.status_code == 200
    assert "shop_poll_duration_seconds_count" in demo.metrics.text
    assert (demo.health.status_code, demo.health.json()) == (200, {"status": "healthy"})
    assert demo.left_behind == []
    assert not demo.still_listens

    notifications = [TOLD.fullmatch(line) for line in demo.stdout.splitlines() if re.match(r"\d\d:", line)]
    shown_kinds: set[str] = set()
    for told in notifications:
        assert told
        kinds = {
            kind: found for kind, (_, text) in TEXTS.items() if (found := re.fullmatch(text, told["text"]))
        }
        assert len(kinds) == 1, told["text"]
        ((kind, found),) = kinds.items()
        assert told["mark"] == TEXTS[kind][0]
        order, amount = found.groups() if kind != "partially_refunded" else reversed(found.groups())
        happened = [
            line for line in demo.stdout.splitlines() if line.startswith("    ") and f"№{order}" in line
        ]
        assert happened, "the shop's own lines tell of that order"
        if kind in {"new", "partially_refunded"}:
            plain = f"{float(amount.replace(' ', '').replace(',', '.')):.2f} ₽"
            assert any(plain in line for line in happened)
        shown_kinds.add(kind)
    assert shown_kinds == set(TEXTS)


@pytest.mark.usefixtures("left_behind")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_can_be_ended(tmp_path: Path, number: signal.Signals) -> None:
    with started(["demo", "--locale", "en"], home=tmp_path, env={}) as demo:
        told = re.compile(r"New order #\d+ · ₽[0-9,]+(\.\d\d)? · \w+")
        wait_until(lambda: told.search(demo.stdout), "a notification")
        assert demo.stop(number) == 0
    assert demo.stderr == ""
    assert "    New order #" in demo.stdout, "the shop's own lines are in the same language"


@pytest.mark.usefixtures("left_behind")
def test_it_ends_when_nobody_reads_it_any_more(tmp_path: Path) -> None:
    """As `demo | head -3` does."""
    read, write = os.pipe()
    with started(["demo"], home=tmp_path, env={}, stdout=write) as demo:
        os.close(write)
        assert os.read(read, 10) != b""
        os.close(read)
        assert demo.wait() == 0
    assert demo.stderr == ""


@pytest.mark.usefixtures("left_behind")
def test_settings_of_ones_own_do_not_touch_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SHOP_POLLING_INTERVAL=never\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {
            "SHOP_HTTP_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}",
            "SHOP_NOTIFY_URLS": "nonsense",
        }
        with started(["demo", "--seconds", "1"], home=tmp_path, env=env) as demo:
            assert demo.wait() == 0
    assert demo.stderr == ""


@pytest.mark.parametrize(
    ("env", "first"), [({}, "Имитация магазина"), ({"SHOP_LOCALE": "en"}, "A simulated shop")]
)
def test_it_speaks_the_language_of_the_settings(tmp_path: Path, env: dict[str, str], first: str) -> None:
    (tmp_path / ".env").write_text("SHOP_LOCALE=ru\n")
    done = run_command(["demo", "--seconds", "1"], home=tmp_path, env=env)
    assert done.code == 0
    assert done.stdout.startswith(first)


def test_a_time_that_is_none_is_2(tmp_path: Path) -> None:
    for value in ("0", "soon"):
        with started(["demo", "--seconds", value], home=tmp_path, env={}) as demo:
            assert demo.wait() == 2
        assert "--seconds" in demo.stderr
