"""Which hosts are this machine. Pure: no name is resolved."""

import ipaddress
import re

IP_PART = re.compile(r"0x[0-9a-f]{1,8}|0[0-7]{0,11}|[1-9][0-9]{0,9}")
THIS_MACHINE = frozenset(
    {"localhost", "localhost.localdomain", "localhost4", "localhost4.localdomain4", "localhost6"}
    | {"localhost6.localdomain6", "ip6-localhost", "ip6-loopback"}
)


def is_loopback(host: str) -> bool:
    """Return whether traffic to this host stays on this machine, and the host is written in the usual way.

    Names below localhost do not count: RFC 6761 keeps them on this machine, but not every resolver follows.
    """
    host = host.rstrip(".").lower()
    address = _ip(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def is_never_proxied(host: str) -> bool:
    """Return whether a host, in any notation, is this machine to any client; a proxy would contact itself."""
    host = host.rstrip(".").lower()
    address = _ip(host) or _short_ip(host)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    return host in THIS_MACHINE or host.endswith(".localhost")


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _short_ip(host: str) -> ipaddress.IPv4Address | None:
    """Parse 127.1, 0x7f.1 or 2130706433: other notations of an address that resolvers accept (inet_aton)."""
    parts = host.split(".")
    if len(parts) > 4 or not all(map(IP_PART.fullmatch, parts)):
        return None
    numbers = [int(part, 8 if part[0] == "0" and part[1:2] != "x" else 0) for part in parts]
    value = numbers.pop()
    for place, number in enumerate(numbers):
        value += number << (24 - 8 * place)
    return ipaddress.IPv4Address(value) if value < 2**32 else None
