"""`--version` and `--help`; every example that the help shows is run."""

import re
import signal
from pathlib import Path

import pytest

from shop_poller import __version__
from shop_poller.cli.healthcheck import DEFAULT_LISTEN
from support.commands import run_command, wait_until
from support.examples import AS_SERVICE, COMMANDS, DEMO, EXAMPLES, GROUPS, INSTALL, SETUP, examples
from support.receivers import reserved_port
from support.site import Site

WHOLE = [*COMMANDS, *(f"{group} {command}" for group, commands in GROUPS.items() for command in commands)]
"""Every command that does something, with its group's name before it."""


def commands_in(told: str) -> list[str]:
    return re.findall(r"^  ([a-z-]+)  +\w", told.partition("Commands:")[2], re.MULTILINE)


def test_the_version(tmp_path: Path) -> None:
    done = run_command(["--version"], home=tmp_path, env={})
    assert (done.code, done.stdout, done.stderr) == (0, f"shop-poller {__version__}\n", "")


def test_the_commands_are_told_without_one(tmp_path: Path) -> None:
    for args in ([], ["--help"]):
        done = run_command(args, home=tmp_path, env={})
        assert done.code == (0 if args else 2)
        told = done.stdout + done.stderr
        assert commands_in(told) == [*COMMANDS, *GROUPS]
        assert "docs/configuration.md" in told


@pytest.mark.parametrize("group", GROUPS)
def test_the_commands_of_a_group_are_told_without_one(tmp_path: Path, group: str) -> None:
    for args in ([group], [group, "--help"]):
        done = run_command(args, home=tmp_path, env={})
        assert commands_in(done.stdout + done.stderr) == [*GROUPS[group]]


@pytest.mark.parametrize("command", WHOLE)
def test_the_help_of_a_command_needs_no_settings(tmp_path: Path, command: str) -> None:
    done = run_command([*command.split(), "--help"], home=tmp_path, env={})
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: shop-poller {command} [OPTIONS]")
    shown = examples(done.stdout)
    assert shown == [line for line in EXAMPLES if f"{line} ".startswith(f"shop-poller {command} ")]
    assert shown, "every command shows one"
    if command in COMMANDS[COMMANDS.index("install-service") :]:
        assert "Exit codes:" in done.stdout
    elif command != "demo":
        assert "Exit codes: 2 settings" in done.stdout


def prepare(site: Site, args: list[str]) -> None:
    """Have what the example is about."""
    if args[0] == "shops":
        site.name_shops({"honey": site.served.url})
    if args[0] in {"status", "audit", "backfill", "deliveries", "mutes", "backup", "restore", "state"}:
        assert site.once().code == 0
    if args[0] == "restore" or "--overwrite" in args:
        assert site.run("backup", "shop-poller.tar").code == 0
    if args[0] == "dead":
        site.receiver.answer = lambda _: 422
        site.shop.create_order("processing")
        assert site.once(SHOP_NOTIFY_URLS=f"{site.receiver.url}#crm").code == 4
    if args[0] == "replay" or args[:2] == ["deliveries", "show"]:
        site.shop.create_order("processing")
        assert site.once(SHOP_NOTIFY_URLS=f"{site.receiver.url}#crm").code == 0


@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if one not in {DEMO, INSTALL, *AS_SERVICE, *SETUP}]
)
def test_an_example_does_what_it_says(site: Site, example: str) -> None:
    _, *args = example.split()
    if args == ["run"]:
        with site.daemon():
            site.polled()
        return
    if args[0] == "healthy":
        with site.daemon() as running:
            listens = running.http.removeprefix("http://")
            args = [listens if arg == DEFAULT_LISTEN else arg for arg in args]
            done = site.run(*args, SHOP_HTTP_LISTEN=listens)
            assert (done.code, done.stdout, done.stderr) == (0, '{"status":"healthy"}\n', "")
        return
    prepare(site, args)
    if args == ["status", "--watch"]:
        with site.start(*args) as watching:
            wait_until(lambda: watching.stdout, "a look")
            assert watching.stop(signal.SIGINT) == 0
        return
    if args[0] in {"poll", "mute", "unmute"}:
        with reserved_port() as port:
            site.settings |= {"SHOP_HTTP_LISTEN": f"127.0.0.1:{port}", "SHOP_ADMIN_TOKEN": "0123456789abcdef"}
            site.settings |= {"SHOP_NOTIFY_URLS": f"{site.receiver.url}#telegram"}
            with site.daemon():
                site.polled()
                assert site.run(*args).code == 0
        return
    if args == ["deliveries", "tail"]:
        with site.daemon(), site.start(*args) as following:
            site.shop.create_order("processing")
            wait_until(lambda: following.stdout, "a delivery")
            assert following.stop(signal.SIGINT) == 0
        return
    done = site.run(*args)
    assert (
        done.code,
        [line for line in done.complaints if "SHOP_NOTIFY_URLS does not name" not in line],
    ) == (
        3 if args[0] == "status" else 0,  # no daemon runs
        [],
    )
    assert done.stdout or "--json" in args
