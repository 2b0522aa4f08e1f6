"""Kills a piece of work at a step: before it opens, renames, removes or gives away a file or a database.

What it has done by then is what a process that is killed there leaves.
"""

import os
import signal
import sys
from collections.abc import Callable

STEPS = ("open", "os.rename", "os.remove", "os.link", "os.chmod", "os.chown", "os.truncate", "sqlite3.")
"""Audit events of Python that stand for what a file system shows."""


def killed_before(step: int, work: Callable[[], object]) -> bool:
    """Do the work in a fork, which is killed as by `kill -9` before the step of this number.

    Returns:
        Whether it came to its end, since it has fewer steps.
    """
    pid = os.fork()
    if not pid:
        left = step

        def count(event: str, _: object) -> None:
            nonlocal left
            if event.startswith(STEPS):
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        try:
            sys.addaudithook(count)
            work()
        except BaseException:  # noqa: BLE001 - the test sees that it did not come to its end
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, -signal.SIGKILL}, f"it failed at step {step}: {code}"
    return code == 0
