"""`python -m simulation` as forks of a process that has imported it: without half a second of imports each.

It runs as a script. support.simulated_worlds starts it, with the seed of hashes that the worlds need.
"""

import gc
import socket
import sys
from pathlib import Path


def main() -> None:
    """Import, serve, and be the command."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = str(Path(__file__).parent.parent)  # as the command has it, which begins in tests/
    from simulation.__main__ import main as simulation  # noqa: PLC0415 - from there
    from support.fork_server import serve  # noqa: PLC0415

    gc.freeze()
    serve(requests)
    sys.exit(simulation())


if __name__ == "__main__":
    main()
