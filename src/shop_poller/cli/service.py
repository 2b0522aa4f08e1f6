"""The commands `install-service`, `as-service`, `healthy` and `completion`: what surrounds the daemon.

What only one of them needs is imported in it, as in cli.py.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shop_poller.cli.console import (
    EnoughError,
    Exit,
    OutputError,
    Yes,
    agreed,
    complain,
    on_terminal,
    say,
    say_lines,
)

if TYPE_CHECKING:
    from shop_poller.cli.systemd_unit import ServiceFile

PROGRAM, COMPLETE_VARIABLE = "shop-poller", "_SHOP_POLLER_COMPLETE"

INSTALL_EPILOG = """\b
Examples:
  shop-poller install-service --print
  shop-poller install-service --yes
Exit codes: 2 it cannot be installed like this, or was not to be."""
AS_SERVICE_EPILOG = """\b
Examples:
  shop-poller as-service check
  shop-poller as-service dead list --json
Exit codes: 2 settings, or there is no such service; else those of the command."""
HEALTHY_EPILOG = """\b
Examples:
  shop-poller healthy
  shop-poller healthy --listen 127.0.0.1:9108
Exit codes: 1 it is not, or nobody answers; 2 command line."""
COMPLETION_EPILOG = """\b
Examples:
  shop-poller completion bash
Exit codes: 2 command line."""

Print = Annotated[bool, typer.Option("--print", help="Print the unit; write nothing.")]
Listen = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Else what SHOP_HTTP_LISTEN says.")
]


def install_service(*, only_print: Print = False, yes: Yes = False) -> None:
    """Write the systemd unit and a file for its settings; say what is left to do."""
    from shop_poller.cli import systemd_unit  # noqa: PLC0415 - see the module's docstring

    command = systemd_unit.own_command()
    if only_print:
        with suppress(EnoughError):
            say_lines(systemd_unit.unit(command).rstrip())
        return
    problems = list(systemd_unit.obstacles(command))
    if os.geteuid() != 0:
        problems.append(f"only root may write to {systemd_unit.UNIT.parent}: sudo {command} install-service")
    if problems:
        for problem in problems:
            complain(problem)
        complain("nothing was written; `install-service --print` shows the unit all the same")
        raise typer.Exit(Exit.SETTINGS)
    install(command, Path("/"), systemd_unit.systemd_version(), yes=yes)


def install(command: Path, root: Path, version: int, *, yes: bool) -> None:
    """Write what makes the service.

    Args:
        command: what the unit starts.
        root: the directory that stands for /.
        version: of systemd.
        yes: write files anew that differ, without asking.

    Raises:
        Exit: a file could not be written, or was not to be.
    """
    from shop_poller.cli import systemd_unit  # noqa: PLC0415 - see the module's docstring

    try:
        for file in systemd_unit.service_files(command, version):
            _install(file, root, yes=yes)
        systemd_unit.below(root, systemd_unit.CREDENTIALS).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OutputError:
        raise
    except OSError as error:
        complain(f"{error.filename}: cannot be written: {error.strerror}")
        raise typer.Exit(Exit.SETTINGS) from error
    for line in _what_is_left(str(command), systemd_unit.SETTINGS, systemd_unit.CREDENTIALS):
        say(line)


def _install(file: "ServiceFile", root: Path, *, yes: bool) -> None:
    """Write a file, unless it is as it should be, or somebody does not want it."""
    from shop_poller.cli import systemd_unit  # noqa: PLC0415 - see the module's docstring

    path, changes = systemd_unit.below(root, file.path), file.diff(root)
    if changes is not None and (file.yours or not changes):
        say(f"left as it is   {path}")
        return
    if changes:
        for line in changes:
            say(line)
        if not yes and not (on_terminal() and agreed(f"write {path} anew?")):
            complain(f"{path} is another one; --yes writes it anew, `systemctl edit` keeps changes apart")
            raise typer.Exit(Exit.SETTINGS)
    file.write(root)
    say(f"written         {path}")


def _what_is_left(command: str, settings: Path, credentials: Path) -> list[str]:
    as_service = f"{command} as-service"
    return [
        "",
        "What is left to do, as root:",
        f"1. the shop's address: WOOCOMMERCE_MCP_URL in {settings}",
        "2. its keys, each asked for, so that no shell remembers them:",
        *(
            f"     systemd-ask-password {name}: | install -m 0600 /dev/stdin {credentials}/{name}"
            for name in ("WOOCOMMERCE_CONSUMER_KEY", "WOOCOMMERCE_CONSUMER_SECRET")
        ),
        "3. who is told, unless the journal is enough:",
        "     echo 'https://crm.example/hooks/orders#crm' |"
        f" install -m 0600 /dev/stdin {credentials}/SHOP_NOTIFY_URLS",
        "4. is it right?",
        "     systemctl daemon-reload",
        f"     {as_service} check",
        f"     {as_service} notify-test",
        "5. on with it, now and at every boot:",
        "     systemctl enable --now shop-poller",
        "     journalctl -fu shop-poller",
        "6. if you like, a token for the buttons of the status page and for poll now, and a restart:",
        f"     openssl rand -hex 24 | install -m 0600 /dev/stdin {credentials}/SHOP_ADMIN_TOKEN",
        "     systemctl restart shop-poller",
        f"     {as_service} poll now",
    ]


def as_service(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="E.g. check, or dead list.")],
) -> None:
    """Run another command with the service's settings, keys and state; as root."""
    from shop_poller.cli import systemd_unit  # noqa: PLC0415 - see the module's docstring

    words = [*command, *context.args]
    try:
        unit = systemd_unit.installed_unit()
        if not unit:
            complain(f"systemd knows no {systemd_unit.UNIT.name}; make it: sudo shop-poller install-service")
            raise typer.Exit(Exit.SETTINGS)
        if os.geteuid() != 0:
            complain(f"only root may read the service's keys: {_sudo(systemd_unit.own_command(), words)}")
            raise typer.Exit(Exit.SETTINGS)
        own = [str(systemd_unit.own_command()), *words]
        systemd_unit.become(
            systemd_unit.as_service(unit, own, terminal=on_terminal() and sys.stdout.isatty())
        )
    except OSError as error:
        complain(f"{error.filename or 'systemctl'}: {error.strerror}; is this machine run by systemd?")
        raise typer.Exit(Exit.SETTINGS) from error


def _sudo(command: Path, words: Sequence[str]) -> str:
    return shlex.join(["sudo", str(command), "as-service", *words])


def healthy(listen: Listen = None) -> None:
    """Ask the daemon that runs on this machine how it is; for a container's health check."""
    from shop_poller.cli import healthcheck as question  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(question.main(listen))


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print what makes a shell complete commands and options."""
    from typer._completion_shared import get_completion_script  # noqa: PLC0415 - it is needed here only

    with suppress(EnoughError):
        say_lines(get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=shell))


def answer_completion() -> None:
    """Let typer answer a shell that asks for completions; it does not unless it has its own options for it.

    Those would make every start slower, for everybody.
    """
    if COMPLETE_VARIABLE in os.environ:
        from typer.completion import get_completion_inspect_parameters  # noqa: PLC0415 - as above

        get_completion_inspect_parameters()  # makes the shells known
