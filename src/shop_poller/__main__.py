"""Entry point of the command. `healthy` runs every 30 s in a container, so it imports nothing else."""

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C during imports: nothing is open yet, and an exception would show a traceback or be lost.
        # cli.main restores Python's own handler.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    occupy_standard_descriptors()
    if sys.argv[1:] == ["healthy"]:
        from shop_poller.cli import healthcheck  # noqa: PLC0415 - see the module's docstring

        sys.exit(healthcheck.main())

    from shop_poller.cli import main as cli  # noqa: PLC0415

    cli.main()


def occupy_standard_descriptors() -> None:
    """Open /dev/null if the process was started without standard input, output or error (`2>&-`).

    Otherwise the next file or socket gets that number, and a library that writes to standard error writes
    into a database. `sys.stderr` is replaced too; `sys.stdin` and `sys.stdout` stay None.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            assert null == number  # noqa: S101 - the lowest number that is free is taken
            os.set_inheritable(null, True)  # noqa: FBT003 - the standard library's
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - lasts as long as the process


if __name__ == "__main__":
    main()
