"""Checks from a server's INFO whether it can keep the state safely. Pure."""

from collections.abc import Mapping
from typing import Any

from shop_poller.core.translatable import Text

OLDEST = (6, 2)


def problem(info: Mapping[str, Any]) -> str:
    """Return in one line what is wrong with a server and how to fix it; "" if nothing is."""
    version = str(info.get("redis_version", ""))
    if _numbers(version) < OLDEST:
        return Text("is version {version}; 6.2 or later is needed, or Valkey", version=version)
    if info.get("role") == "slave":
        return Text("is a replica; name the primary, or use redis+sentinel://")
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        return Text(
            "deletes keys when its memory is full (maxmemory-policy {policy}); set it to noeviction",
            policy=policy,
        )
    return ""


def describe(info: Mapping[str, Any]) -> str:
    """Describe a server in a few words."""
    name = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    )
    if info.get("aof_enabled"):
        return Text("{server}, with appendonly", server=name)
    return Text(
        "{server}, without appendonly: a restart loses recent changes, see docs/redis.md", server=name
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
