"""Names the modules of others that the daemon has loaded once it works: `libraries.py`."""

import json
import sys

from shop_poller.cli import main as cli
from shop_poller.runtime import app
from shop_poller.stores import sqlite

USED = (app, cli, sqlite)


def main() -> None:
    """Name them, in the order in which they were loaded."""
    mine = {"shop_poller", "benchmarks", "__main__", "__mp_main__", "_distutils_hack", "sitecustomize"}
    print(json.dumps([name for name in sys.modules if name.partition(".")[0] not in mine]))


if __name__ == "__main__":
    main()
