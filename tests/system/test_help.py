"""`--version` and `--help`; every example that the help shows is run."""

import re
from pathlib import Path

import pytest

from shop_poller import __version__
from support.commands import run_command
from support.examples import COMMANDS, EXAMPLES, examples
from support.site import Site


def test_the_version(tmp_path: Path) -> None:
    done = run_command(["--version"], home=tmp_path, env={})
    assert (done.code, done.stdout, done.stderr) == (0, f"shop-poller {__version__}\n", "")


def test_the_commands_are_told_without_one(tmp_path: Path) -> None:
    for args in ([], ["--help"]):
        done = run_command(args, home=tmp_path, env={})
        assert done.code == (0 if args else 2)
        told = done.stdout + done.stderr
        assert re.findall(r"^  ([a-z-]+)  +\w", told.partition("Commands:")[2], re.MULTILINE) == list(
            COMMANDS
        )
        assert "docs/configuration.md" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_needs_no_settings(tmp_path: Path, command: str) -> None:
    done = run_command([command, "--help"], home=tmp_path, env={})
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: shop-poller {command} [OPTIONS]\n")
    shown = examples(done.stdout)
    assert shown == [line for line in EXAMPLES if line.split()[1] == command]
    assert shown, "every command shows one"
    if command != "demo":
        assert "Exit codes: 2 settings" in done.stdout


@pytest.mark.parametrize("example", [example for example in EXAMPLES if "demo" not in example])
def test_an_example_does_what_it_says(site: Site, example: str) -> None:
    _, *args = example.split()
    if args == ["run"]:
        with site.daemon():
            site.polled()
        return
    if args[0] in {"status", "audit", "backfill"}:
        assert site.once().code == 0
    done = site.run(*args)
    assert (done.code, done.complaints) == (0, [])
    assert done.stdout
