"""`.env` as `setup` writes it: the loader reads back each value, the rest stays, no half file is left."""

import io
import os
import signal
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.cli.env_file import quoted, read, save, with_values
from shop_poller.config.loader import gather, load
from shop_poller.sinks.registry import parse_sink

ODD = [
    "",
    "plain",
    " blanks around ",
    "a#b",
    "#begins",
    "a #comment",
    "$HOME ${HOME} `id`",
    "it's",
    '"quoted"',
    "back\\slash\\",
    "\\'",
    "ключ ✓",
    "apprise+tgram://1:a_b-c/-100#telegram console:",
    "export X=1",
]


def values_in(text: str) -> dict[str, str | None]:
    return dotenv_values(stream=io.StringIO(text), interpolate=False)


@pytest.mark.parametrize("value", ODD)
def test_an_odd_value_is_read_back(value: str) -> None:
    text = with_values("BEFORE=1\n", {"A": value, "B": "after"})
    assert values_in(text) == {"BEFORE": "1", "A": value, "B": "after"}


@given(st.dictionaries(st.sampled_from("ABCD"), st.text(st.characters(exclude_categories=["Cc", "Cs"]))))
def test_any_values_are_read_back(values: dict[str, str]) -> None:
    assert values_in(with_values("", values)) == values


def test_the_loader_reads_it(tmp_path: Path) -> None:
    values = {
        "WOOCOMMERCE_MCP_URL": "https://shop.example/?rest_route=/",
        "WOOCOMMERCE_CONSUMER_KEY": "ck_$a'b\"c#d\\e",
        "WOOCOMMERCE_CONSUMER_SECRET": "cs_`!&;|",
        "SHOP_NOTIFY_URLS": "apprise+mailto://me:p%40s$@mail.example?to=a@x.example#mail console:",
        "SHOP_BRAND_ID": "Мёд 'и' \"соты\" # $HOME",
    }
    path = tmp_path / ".env"
    save(path, with_values("", values))
    found = gather(None, environ={}, dotenv=path)
    assert found.values == {name.lower(): value for name, value in values.items()}
    settings = load(environ={}, dotenv=path, parse_sink=parse_sink)
    assert settings.shop_brand_id == values["SHOP_BRAND_ID"]


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\x1b[2J", "\x7f"])
def test_a_value_that_would_begin_a_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        quoted(value)


def test_simple_values_have_no_quotes_for_programs_that_do_not_remove_them() -> None:
    for value in ("ck_1a", "https://shop.example/?rest_route=/", "apprise+tgram://1:a/-100#telegram"):
        assert quoted(value) == value


def test_all_else_stays_as_it_is() -> None:
    before = (
        "# my shop\n\nexport WOOCOMMERCE_MCP_URL='https://old.example'  # moved\nSHOP_ID = honey\n"
        "this is no setting\nshop_locale=en\nSHOP_LOCALE=en\nMULTI='a\nb'\nSHOP_LOG_LEVEL=debug"
    )
    after = with_values(
        before, {"WOOCOMMERCE_MCP_URL": "https://new.example", "SHOP_LOCALE": "ru", "NEW": "1"}
    )
    assert after == (
        "# my shop\n\nWOOCOMMERCE_MCP_URL=https://new.example\nSHOP_ID = honey\n"
        "this is no setting\nSHOP_LOCALE=ru\nMULTI='a\nb'\nSHOP_LOG_LEVEL=debug\nNEW=1\n"
    )


def test_the_ends_of_lines_of_windows_stay() -> None:
    assert with_values("A=1\r\nB=2\r\n", {"A": "3"}) == "A=3\r\nB=2\r\n"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    before = os.umask(0)
    try:
        assert save(path, "A=1\n") is None
    finally:
        os.umask(before)
    assert (path.read_text(), mode(path)) == ("A=1\n", 0o600)
    assert [one.name for one in tmp_path.iterdir()] == [".env"]


def test_the_old_file_is_kept_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=old\n")
    path.chmod(0o644)
    backup = save(path, "A=new\n")
    assert backup == tmp_path / ".env.bak"
    assert [(one.read_text(), mode(one)) for one in (path, backup)] == [
        ("A=new\n", 0o600),
        ("A=old\n", 0o600),
    ]
    assert save(path, "A=newer\n") == backup
    assert backup.read_text() == "A=new\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    there = tmp_path / "real" / "settings"
    there.write_text("A=old\n")
    path = tmp_path / ".env"
    path.symlink_to(there)
    assert save(path, "A=new\n") == there.with_name("settings.bak")
    assert path.is_symlink()
    assert there.read_text() == "A=new\n"


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failure_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / ".env"
    path.write_text("A=old\n")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if call == "replace":
        monkeypatch.setattr("shop_poller.cli.env_file.Path.replace", fail)
    else:
        monkeypatch.setattr("shop_poller.cli.env_file.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save(path, "A=new\n")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [(".env", "A=old\n")]


def test_ctrl_c_waits_until_both_files_are_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".env"
    path.write_text("A=old\n")
    replace = Path.replace

    def interrupted(one: Path, other: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return replace(one, other)

    monkeypatch.setattr("shop_poller.cli.env_file.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(path, "A=new\n")
    found = {one.name: one.read_text() for one in tmp_path.iterdir()}
    assert found == {".env": "A=new\n", ".env.bak": "A=old\n"}


def test_a_file_that_is_no_text_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert read(path) == ("", {})
    path.write_bytes(b"A=\xff\n")
    with pytest.raises(ValueError, match="utf-8"):
        read(path)
    path.write_bytes("\ufeffSHOP_Id=ä\n".encode())
    assert read(path) == ("SHOP_Id=ä\n", {"shop_id": "ä"})
