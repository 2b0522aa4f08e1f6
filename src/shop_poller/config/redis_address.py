"""Parses the address of a state in Redis or Valkey: one server, Sentinel or Cluster, with or without TLS.

    redis(s)://user:password@host:6379/0
    redis(s)+sentinel://user:password@host:26379,host:26379/name-of-the-master/0
    redis(s)+cluster://user:password@host:6379,host:6379

Options: `ca_certs=/path/to/ca.pem` (with TLS), `sentinel_username=`, `sentinel_password=`.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, quote, unquote, urlsplit

from shop_poller.core.translatable import Text

SCHEME = re.compile(r"redis(s)?(\+sentinel|\+cluster)?")
HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:@/\s]+))(?::([0-9]{1,5}))?")
OPTIONS = frozenset({"ca_certs", "sentinel_username", "sentinel_password"})
SENTINEL_PORT, SERVER_PORT = 26379, 6379


class Topology(StrEnum):
    """The kind of deployment, which determines how the right server is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address of a state in Redis or Valkey.

    Attributes:
        hosts: host and port of the servers, or of the Sentinels.
        master: the name of the master in Sentinel.
        ca_certs: a file of trusted certificates; "" for the system's.
    """

    topology: Topology
    hosts: tuple[tuple[str, int], ...]
    tls: bool
    database: int = 0
    master: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca_certs: str = ""
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets in the address, plain and percent-encoded."""
        plain = filter(None, (self.password, self.sentinel_password))
        return tuple(form for secret in plain for form in (secret, quote(secret, safe="")))

    @property
    def shown(self) -> str:
        """The address without user and password, for messages."""
        kind = (
            f"redis{'s' if self.tls else ''}{'' if self.topology is Topology.SINGLE else f'+{self.topology}'}"
        )
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        end = {
            Topology.SINGLE: f"/{self.database}",
            Topology.SENTINEL: f"/{self.master}/{self.database}",
            Topology.CLUSTER: "",
        }
        return f"{kind}://{hosts}{end[self.topology]}"


def parse_redis(address: str) -> RedisAddress:
    """Read an address.

    Raises:
        ValueError: with the problem, but without the address, which may contain a password.
    """
    try:
        parts = urlsplit(address)
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(Text("is no valid address (host, port or options)")) from None
    kind = SCHEME.fullmatch(parts.scheme)
    if kind is None:
        raise ValueError(Text("should begin with redis://, rediss://, redis+sentinel:// or redis+cluster://"))
    topology = Topology(kind[2][1:]) if kind[2] else Topology.SINGLE
    user, at, hosts = parts.netloc.rpartition("@")
    if not at and "@" in parts.path:
        raise ValueError(
            Text("is no valid address; in a password write %2F for /, %3F for ?, %23 for # and %40 for @")
        )
    if parts.fragment or not set(options) <= OPTIONS:
        raise ValueError(
            Text("has an option that is not known; there are {options}", options=", ".join(sorted(OPTIONS)))
        )
    for name, values in options.items():
        if len(values) > 1 or not values[0]:
            raise ValueError(Text("has the option {name} more than once, or with nothing in it", name=name))
    port = SENTINEL_PORT if topology is Topology.SENTINEL else SERVER_PORT
    servers = tuple(_host(host, port) for host in hosts.split(","))
    if topology is Topology.SINGLE and len(servers) > 1:
        raise ValueError(Text("names several hosts; write redis+sentinel:// or redis+cluster://"))
    master, database = _path(topology, parts.path)
    username, _, password = user.partition(":")
    return RedisAddress(
        topology=topology,
        hosts=servers,
        tls=bool(kind[1]),
        database=database,
        master=master,
        username=unquote(username),
        password=unquote(password),
        **{name: values[0] for name, values in options.items()},
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    found = HOST.fullmatch(text)
    port = int(found[3] or default_port) if found else 0
    if not found or not 0 < port < 65536:
        raise ValueError(Text("is no valid address (host or port)"))
    return found[1] or found[2], port


def _path(topology: Topology, path: str) -> tuple[str, int]:
    """Return the master's name and the number of the database."""
    first, *others = path.strip("/").split("/")
    if topology is Topology.CLUSTER:
        if first:
            raise ValueError(Text("has a path; a Cluster has no databases to choose from"))
        return "", 0
    if topology is Topology.SENTINEL:
        if not first:
            raise ValueError(Text("names no master; write redis+sentinel://host:26379/mymaster/0"))
        master, number = first, others
    else:
        master, number = "", [first, *others] if first else []
    if len(number) > 1 or not all(n.isascii() and n.isdigit() and len(n) <= 5 for n in number):
        raise ValueError(Text("should end in the number of a database, e.g. redis://host:6379/0"))
    return master, int(number[0]) if number else 0
