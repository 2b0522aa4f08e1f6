"""The last step of `setup`: what is said when the file cannot be written, or Ctrl-C comes too late."""

import os
import signal
from pathlib import Path

import pytest
import typer

from shop_poller.cli import setup
from shop_poller.cli.env_file import save
from shop_poller.simulator.keys import DEMO_KEY

URL, KEY, SECRET = "https://shop.example", DEMO_KEY.consumer_key, DEMO_KEY.consumer_secret
VALUES = {
    "woocommerce_mcp_url": URL,
    "woocommerce_consumer_key": KEY,
    "woocommerce_consumer_secret": SECRET,
    "shop_locale": "en",
}


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer all questions; the dialogue itself is tested on a terminal."""
    monkeypatch.setattr(setup, "on_terminal", lambda: True)
    monkeypatch.setattr("shop_poller.cli.setup_shop.ShopStep.run", lambda _: dict(VALUES))
    monkeypatch.setattr("shop_poller.cli.setup_chat.ChatStep.run", lambda _: None)
    monkeypatch.setattr("shop_poller.observability.logging.set_up_logging", lambda **_: None)


def ended(dotenv: Path) -> int:
    """The exit code."""
    with pytest.raises(typer.Exit) as caught:
        setup.set_up(dotenv, {}, locale="en")
    return caught.value.exit_code


def test_all_is_written_and_the_next_steps_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.set_up(tmp_path / ".env", {}, locale="en")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [
        f"The settings are in {tmp_path}/.env. Only you may read that file.",
        "No receiver is set: notifications go to the terminal.",
        "Check everything: shop-poller check",
        "Start it: shop-poller run",
    ]


def test_ctrl_c_that_comes_too_late_does_not_claim_that_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dotenv = tmp_path / ".env"

    def interrupted(path: Path, other: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        os.replace(path, other)  # noqa: PTH105 - Path.replace is this function
        return other

    monkeypatch.setattr("shop_poller.cli.env_file.Path.replace", interrupted)
    assert ended(dotenv) == 130
    assert f"Cancelled, but the settings are already in {dotenv}" in capsys.readouterr().out
    assert SECRET in dotenv.read_text()


def test_ctrl_c_before_that_leaves_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shop_poller.cli.env_file.save", interrupted)
    assert ended(tmp_path / ".env") == 130
    assert "Nothing was changed." in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / ".env", "SHOP_ID=honey\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shop_poller.cli.env_file.os.fsync", full)
    assert ended(tmp_path / ".env") == 2
    assert "cannot be written: No space left on device." in capsys.readouterr().err
    assert [one.read_text() for one in tmp_path.iterdir()] == ["SHOP_ID=honey\n"]


def test_a_directory_that_is_closed_is_said_before_any_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert ended(tmp_path / ".env") == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "Permission denied. Run the command in a directory where it can." in captured.err
