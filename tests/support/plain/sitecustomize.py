"""Python runs this at its start where it is on PYTHONPATH: hides what the default install does not have."""

import sys

for name in ("aiohttp", "httpx_aiohttp", "uvloop", "greenlet"):
    sys.modules[name] = None  # type: ignore[assignment] # an import of it fails
