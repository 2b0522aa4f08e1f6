"""Completion in real shells: the script that `completion` prints, and what the shell makes of it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.commands import COMMAND, environment, run_command
from support.examples import COMMANDS, GROUPS

BASH = """
eval "$(shop-poller completion bash)"
tab() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _shop_poller_completion shop-poller
    echo "${COMPREPLY[@]}"
}
"""
ZSH = """
autoload -U compinit; compinit -u
eval "$(shop-poller completion zsh)"
echo $_comps[shop-poller]
"""
FISH = """
shop-poller completion fish | source
complete -C '{line}' | string split -f1 \\t
"""


def shell(name: str, script: str, home: Path) -> list[str]:
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here")
    env = environment(home, {"PATH": f"{COMMAND.parent}:{os.environ['PATH']}"})
    done = subprocess.run([name, "-c", script], capture_output=True, text=True, check=True, env=env, cwd=home)
    assert done.stderr == ""
    return done.stdout.splitlines()


def in_bash(home: Path, *lines: str) -> list[list[str]]:
    """What a TAB at the end of each line would offer."""
    tabs = "\n".join("tab " + " ".join(f"'{word}'" for word in line.split(" ")) for line in lines)
    return [offered.split() for offered in shell("bash", BASH + tabs, home)]


def test_bash_completes_commands_groups_and_options(tmp_path: Path) -> None:
    commands, groups, options, values, besides = in_bash(
        tmp_path,
        "shop-poller ",
        "shop-poller dead ",
        "shop-poller run --",
        "shop-poller demo --locale e",
        "shop-poller --",
    )
    assert set(commands) == {*COMMANDS, *GROUPS}
    assert set(groups) == set(GROUPS["dead"])
    assert set(options) == {"--config", "--once", "--dry-run", "--shop", "--help"}
    assert values == ["en"]
    # Typer's own --install-completion writes to the shell's start files, and makes every start slower.
    assert set(besides) == {"--version", "--help"}


def test_fish_completes_options(tmp_path: Path) -> None:
    assert shell("fish", FISH.format(line="shop-poller run --on"), tmp_path) == ["--once"]


def test_zsh_takes_the_script(tmp_path: Path) -> None:
    """It completes only on a terminal, so what it would ask is asked here."""
    assert shell("zsh", ZSH, tmp_path) == ["_shop_poller_completion"]
    requested = {"_SHOP_POLLER_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "shop-poller noti"}
    done = run_command([], home=tmp_path, env=requested)
    assert done.code == 0
    assert "notify-test" in done.stdout
    assert "backfill" not in done.stdout


def test_another_shell_is_refused(tmp_path: Path) -> None:
    done = run_command(["completion", "tcsh"], home=tmp_path, env={})
    assert done.code == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
