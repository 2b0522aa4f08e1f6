"""Python runs this at its start where it is on PYTHONPATH: the extra `fast` is as good as not installed."""

import sys

for name in ("aiohttp", "httpx_aiohttp", "uvloop"):
    sys.modules[name] = None  # type: ignore[assignment] # an import of it fails
