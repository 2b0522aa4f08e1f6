"""Commands as forks of a process that has imported the command line: without half a second of imports each.

It runs by itself, as a script; support.commands starts it, and tests/system/test_forks.py holds it
against the installed command. Each command is a process of its own, with an id, a
directory, an environment and an output of its own, and begins where the installed script begins; what it
needs besides, it imports itself, and it ends as Python ends.
"""

import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

LARGE = ("shop_poller.runtime.app", "shop_poller.cli.status")
"""What nearly every command imports once it has begun."""
KEPT_OUT = ("rich", "httpx._main")
"""What the command line keeps out of that; not yet where it begins (see shop_poller.cli.console)."""


def serve(requests: socket.socket) -> None:
    """Fork for each request; returns in the fork that is to be the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for commands
    while True:
        said, fds, _, _ = socket.recv_fds(requests, 1 << 16, 3)
        if not said:
            os._exit(0)  # the tests are over
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            return become(fds, **json.loads(said))
        for fd in fds:
            os.close(fd)


def become(fds: Sequence[int], args: Sequence[str], home: str, env: dict[str, str]) -> None:
    """Fork once more, and tell the tests the command's process id and then its exit code."""
    *outputs, told = fds
    if pid := os.fork():
        os.write(told, b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(told, b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(told)
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)
        os.close(output)
    os.chdir(home)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv[:] = args


def main() -> None:
    """Import, serve, and be a command."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = os.path.dirname(sys.argv[2])  # noqa: PTH120 - as Python sets it
    import_module("shop_poller.cli.main")
    sys.modules.update(dict.fromkeys(KEPT_OUT))  # type: ignore[arg-type] # None means: cannot be imported
    for name in LARGE:
        import_module(name)
    for name in KEPT_OUT:
        del sys.modules[name]
    with suppress(ImportError):  # where the extra is kept out: see support/plain
        import_module("shop_poller.http.aiohttp_transport")
    gc.freeze()
    serve(requests)
    sys.exit(import_module("shop_poller.__main__").main())


if __name__ == "__main__":
    main()
