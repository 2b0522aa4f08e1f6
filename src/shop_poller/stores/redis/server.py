"""What a server says of itself (INFO), and whether state can be trusted to it. Pure."""

from collections.abc import Mapping
from typing import Any

OLDEST = (6, 2)


def problem(info: Mapping[str, Any]) -> str:
    """What is wrong with a server and what to do, in one line; "" if nothing is."""
    version = str(info.get("redis_version", ""))
    if _numbers(version) < OLDEST:
        return f"is version {version}; 6.2 or later is needed, or Valkey"
    if info.get("role") == "slave":
        return "is a replica; name the primary, or use redis+sentinel://"
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        return f"forgets keys when its memory is full (maxmemory-policy {policy}); set it to noeviction"
    return ""


def describe(info: Mapping[str, Any]) -> str:
    """A server in a few words."""
    name = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    )
    if info.get("aof_enabled"):
        return f"{name}, keeps a log of all writes"
    return f"{name}, without appendonly: a restart forgets what is young, see docs/redis.md"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
