"""Says which of these packages are installed here, and in which version: `versions.py NAME...`."""

import json
import sys
from importlib.metadata import PackageNotFoundError, version


def main() -> None:
    """Say so."""
    found: dict[str, str] = {}
    for name in sys.argv[1:]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    print(json.dumps(found))


if __name__ == "__main__":
    main()
