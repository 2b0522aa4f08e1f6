"""The commands `install-service`, `as-service`, `healthy` and `completion`."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer._completion_shared import get_completion_script

from shop_poller.cli import healthcheck, systemd_unit
from shop_poller.cli.console import (
    COMPLETE_VARIABLE,
    PROGRAM,
    EnoughError,
    OutputError,
    Yes,
    agreed,
    complain,
    make_app,
    on_terminal,
    refused,
    say,
    say_lines,
)
from shop_poller.core.known_lines import known
from shop_poller.core.translatable import Text

app = make_app()

Print = Annotated[bool, typer.Option("--print", help="Print the unit; write nothing.")]
Listen = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Default: SHOP_HTTP_LISTEN.")
]


@app.command(
    epilog="""\b
Examples:
  shop-poller install-service --print
  shop-poller install-service --yes
Exit codes: 2 it cannot be installed, or you declined."""
)
def install_service(*, only_print: Print = False, yes: Yes = False) -> None:
    """Write the systemd unit and a file for its settings; print the next steps."""
    command = systemd_unit.own_command()
    if only_print:
        with suppress(EnoughError):
            say_lines(systemd_unit.unit(command).rstrip())
        return
    problems = list(systemd_unit.obstacles(command))
    if os.geteuid() != 0:
        problems.append(
            Text(
                "only root may write to {directory}: sudo {command} install-service",
                directory=systemd_unit.UNIT.parent,
                command=command,
            )
        )
    if problems:
        for problem in problems:
            complain(problem)
        raise refused(Text("nothing was written; `install-service --print` prints the unit anyway"))
    install(command, Path("/"), systemd_unit.systemd_version(), yes=yes)


def install(command: Path, root: Path, version: int, *, yes: bool) -> None:
    """Write the files of the service.

    Args:
        command: what the unit starts.
        root: the directory that stands for /.
        version: of systemd.
        yes: overwrite files that differ, without asking.

    Raises:
        Exit: a file cannot be written, or the user declined.
    """
    try:
        for file in systemd_unit.service_files(command, version):
            _install(file, root, yes=yes)
        systemd_unit.below(root, systemd_unit.CREDENTIALS).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OutputError:
        raise
    except OSError as error:
        problem = Text(
            "{path}: cannot be written: {error}", path=error.filename, error=known(error.strerror or "")
        )
        raise refused(problem) from error
    for line in _next_steps(str(command), systemd_unit.SETTINGS, systemd_unit.CREDENTIALS):
        say(line)


def _install(file: systemd_unit.ServiceFile, root: Path, *, yes: bool) -> None:
    """Write a file, unless it is up to date, belongs to the user, or the user declines."""
    path, changes = systemd_unit.below(root, file.path), file.diff(root)
    if changes is not None and (file.yours or not changes):
        say(Text("unchanged       {path}", path=path))
        return
    if changes:
        for line in changes:
            say(line)
        if not yes and not (on_terminal() and agreed(Text("overwrite {path}?", path=path))):
            raise refused(
                Text(
                    "{path} differs; --yes overwrites it, `systemctl edit` keeps your changes apart",
                    path=path,
                )
            )
    file.write(root)
    say(Text("written         {path}", path=path))


def _next_steps(command: str, settings: Path, credentials: Path) -> list[str]:
    as_service = f"{command} as-service"
    return [
        "",
        Text("Next steps, as root:"),
        Text("1. Set the shop's address: WOOCOMMERCE_MCP_URL in {file}", file=settings),
        Text("2. Enter its keys. Each is asked for, so that it is not in the shell's history:"),
        *(
            f"     systemd-ask-password {name}: | install -m 0600 /dev/stdin {credentials}/{name}"
            for name in ("WOOCOMMERCE_CONSUMER_KEY", "WOOCOMMERCE_CONSUMER_SECRET")
        ),
        Text("3. Set where notifications go. Skip this to have them in the journal:"),
        "     echo 'https://crm.example/hooks/orders#crm' |"
        f" install -m 0600 /dev/stdin {credentials}/SHOP_NOTIFY_URLS",
        Text("4. Check it:"),
        "     systemctl daemon-reload",
        f"     {as_service} check",
        f"     {as_service} notify-test",
        Text("5. Start it, now and at every boot:"),
        "     systemctl enable --now shop-poller",
        "     journalctl -fu shop-poller",
        Text("6. Optional: set a token for the buttons of the status page and for `poll now`, and restart:"),
        f"     openssl rand -hex 24 | install -m 0600 /dev/stdin {credentials}/SHOP_ADMIN_TOKEN",
        "     systemctl restart shop-poller",
        f"     {as_service} poll now",
    ]


# The options after the name of the other command belong to that command.
@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  shop-poller as-service check
  shop-poller as-service dead list --json
Exit codes: 2 settings, or there is no such service; else those of the other command.""",
)
def as_service(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="E.g. check, or dead list.")],
) -> None:
    """Run another command with the service's settings, keys and state; as root."""
    words = [*command, *context.args]
    try:
        unit = systemd_unit.installed_unit()
        if not unit:
            raise refused(
                Text(
                    "there is no {unit}; install it: sudo shop-poller install-service",
                    unit=systemd_unit.UNIT.name,
                )
            )
        if os.geteuid() != 0:
            sudo = shlex.join(["sudo", str(systemd_unit.own_command()), "as-service", *words])
            raise refused(Text("only root may read the service's keys: {command}", command=sudo))
        own = [str(systemd_unit.own_command()), *words]
        systemd_unit.become(
            systemd_unit.as_service(unit, own, terminal=on_terminal() and sys.stdout.isatty())
        )
    except OSError as error:
        raise refused(
            Text(
                "{command}: {error}; does this machine run systemd?",
                command=error.filename or "systemctl",
                error=known(error.strerror or ""),
            )
        ) from error


@app.command(
    epilog="""\b
Examples:
  shop-poller healthy
  shop-poller healthy --listen 127.0.0.1:9108
Exit codes: 1 unhealthy, or no answer; 2 command line."""
)
def healthy(listen: Listen = None) -> None:
    """Ask the daemon on this machine whether it is healthy; for a container's health check."""
    raise typer.Exit(healthcheck.main(listen))


@app.command(
    epilog="""\b
Examples:
  shop-poller completion bash
Exit codes: 2 command line."""
)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print a script that lets your shell complete commands and options."""
    with suppress(EnoughError):
        say_lines(get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=shell))
