"""No command prints a line in English that cannot be translated: each is run with a made-up language.

Its catalogue marks every line with ⟦ ⟧ and accents; see support/pseudo_locale. English letters without
accents are then names and values, which are listed here, or a line that somebody forgot.
"""

import re
from collections.abc import Callable
from pathlib import Path

import support
from support.commands import environment, forked, started
from support.receivers import Post
from support.site import Site

PSEUDO = {"LANG": "ru_RU.UTF-8", "PYTHONPATH": str(Path(support.__path__[0], "pseudo_locale"))}
VALUES = (
    r"[\w-]+\.(?:tar|db|service)\b",  # files
    r"shop-poller(?: [a-z-]+){0,2}",  # the program, and a command of an example
    r"\S*/\S*",  # paths and addresses
    r"[A-Z]{2,}(?:_[A-Z]+)+",  # settings
    r"--[a-z-]+",  # options
    r"\d{4}-\d\d-\d\dT[\d:.]+Z",
    r"[0-9a-f]+(?:-[0-9a-f]+){4}",  # ids of events
    r"(?:shop|service)\.[a-z_.]+",  # events
    r"woocommerce-mcp",  # a dialect
    r"\w+Error \d+|\bdelivered \d+",  # how an attempt ended
    r"pending|processing|completed|failed|cancelled|refunded",  # statuses of WooCommerce
    r"'[^']*'",  # what was typed
    r"\{\".*\"\}",  # the body of a notification
    r"honey\.example|crm|telegram",  # the shop and the sinks of these tests
)
"""What is the same in every language."""


def english(text: str) -> list[str]:
    """The lines that contain words without accents, apart from values and bodies of notifications."""
    lines = re.sub(r"^( *)\{$.*?^\1\}$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()
    return [line for line in lines if re.search("[A-Za-z]{2,}", re.sub("|".join(VALUES), "", line))]


def run(site: Site, *args: str, **changes: str | None) -> list[str]:
    """Run a command; return the lines that it printed in English."""
    whole = environment(site.home, site.environment(**changes)) | PSEUDO
    done = forked(args, home=site.home, whole=whole, within_s=60)
    lines = "\n".join([done.stdout, *done.complaints])
    assert "⟦" in lines, (args, lines)
    return english(lines)


def refusing(order: int) -> Callable[[Post], int]:
    return lambda post: 422 if post.source_id == str(order) else 200


def test_english_is_found() -> None:
    assert english("⟦áƀć⟧ shop-poller dead list\nthis is English in /path") == ["this is English in /path"]


def test_commands_that_work(site: Site) -> None:
    site.shop.create_order("processing")
    assert run(site, "run", "--once", "--dry-run") == []
    assert run(site, "run", "--once") == []
    for _ in range(2):
        site.receiver.answer = refusing(site.shop.create_order("processing"))
        site.shop.create_order("processing")
        assert run(site, "run", "--once") == []
    found = {}
    for command in (
        "check",
        "notify-test",
        "status",
        "audit --since 2026-11-01",
        "backfill --since 2026-01-01",
        "preview --limit 1",
        "preview --examples --event cancelled",
        "deliveries list",
        "deliveries show 2",
        "dead list",
        "dead show 2",
        "mutes",
        "shops list",
        "shops check",
        "state check",
        "state aside",
        "backup shop-poller.tar",
        "restore shop-poller.tar",
        "replay --since 2026-11-01 --dry-run",
        "dead list --all",
        "status --all",
        "check --all",
        "audit --since 2026-11-01 --all",
        "backfill --since 2026-01-01 --all",
        "deliveries list --all",
        "replay --since 2026-11-01 --all --yes",
        "dead replay 2",
        "dead replay --all --all-shops",
        "dead drop --all --yes",
    ):
        found[command] = run(site, *command.split())
    assert {command: lines for command, lines in found.items() if lines} == {}


def test_commands_that_are_refused(site: Site) -> None:
    site.receiver.answer = lambda _: 422
    site.shop.create_order("processing")
    assert run(site, "run", "--once") == []
    (site.home / "other.tar").write_text("not a backup", encoding="utf-8")
    found = {}
    for command in (
        "checks",
        "check --confi x",
        "check --config",
        "audit",
        "audit --since 1999-01-01",
        "demo --seconds 0",
        "status --watch --json",
        "dead show 7",
        "dead replay",
        "dead replay 1 --all",
        "dead replay 1 --all-shops",
        "status --all --tag premium",
        "status --tag premium",
        "dead drop 7",
        "dead list --limit x",
        "deliveries show 9",
        "preview --sink nobody",
        "replay --since 2026-11-01 --until 2026-10-01",
        "poll now",
        "mute telegram",
        "mute telegram --for 1d",
        "backup other.tar",
        "backup other.tar --overwrite",
        "restore other.tar",
        "restore missing.tar",
        "as-service check",
        "install-service",
    ):
        changes = {"SHOP_NOTIFY_URLS": f"{site.receiver.url}#telegram"} if "mute" in command else {}
        found[command] = run(site, *command.split(), **changes)
    assert {command: lines for command, lines in found.items() if lines} == {}


def test_the_demo(tmp_path: Path) -> None:
    with started(["demo", "--seconds", "4"], home=tmp_path, env=PSEUDO) as demo:
        assert demo.wait() == 0
    assert re.search("^    ⟦", demo.stdout, re.MULTILINE), "an event in the shop"
    notification = re.compile(r"\d\d:\d\d:\d\d ")
    lines = [line for line in demo.stdout.splitlines() if not notification.match(line)]
    assert english("\n".join(lines)) == []
