"""What addresses mean: of sinks, of the listener; and what of them may be shown."""

import re
import string
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shop_poller.config.addresses import parse_listen, split
from shop_poller.config.sinks import SinkConfig
from shop_poller.core.filters import Filter
from shop_poller.core.hosts import is_loopback, is_never_proxied
from shop_poller.sinks.console import ConsoleConfig
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.redis.config import RedisConfig, ServerConfig, StreamConfig
from shop_poller.sinks.registry import parse_sink

SECRET = "hunter2"


def url_of(sink: SinkConfig) -> str:
    """The URL that a sink delivers to; the console has none."""
    if isinstance(sink, ConsoleConfig):
        return "console:"
    assert isinstance(sink, HttpConfig | ServerConfig)
    return sink.url


def password_of(sink: SinkConfig) -> str:
    return urlsplit(url_of(sink)).password or ""


# --- What is accepted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "name", "kind", "url", "channel"),
    [
        ("console:", "console:", ConsoleConfig, "console:", ""),
        ("console:#screen", "screen", ConsoleConfig, "console:", ""),
        # Over HTTP the query is the receiver's; it may hold a token, so it is no part of the name.
        ("https://h.example/hook", "https://h.example/hook", HttpConfig, "https://h.example/hook", ""),
        ("http://h.example:8080", "http://h.example:8080", HttpConfig, "http://h.example:8080", ""),
        ("https://h.example/a?k=v", "https://h.example/a", HttpConfig, "https://h.example/a?k=v", ""),
        ("https://h.example/a?k=v#crm", "crm", HttpConfig, "https://h.example/a?k=v", ""),
        ("https://[::1]:8443/a", "https://[::1]:8443/a", HttpConfig, "https://[::1]:8443/a", ""),
        ("https://h.example/@me/a", "https://h.example/@me/a", HttpConfig, "https://h.example/@me/a", ""),
        # Redis knows no options but ours, which are not sent to it.
        ("redis://h/0?channel=c", "redis://h/0", RedisConfig, "redis://h/0", "c"),
        ("redis://h?channel=c", "redis://h", RedisConfig, "redis://h", "c"),
        ("rediss://h:6380/15?channel=c#main", "main", RedisConfig, "rediss://h:6380/15", "c"),
        ("redis://h/0?channel=shop:events", "redis://h/0", RedisConfig, "redis://h/0", "shop:events"),
        ("redis://h/0?channel=a%26b", "redis://h/0", RedisConfig, "redis://h/0", "a&b"),
    ],
)  # fmt: skip
def test_an_address_says_who_is_told_and_under_what_name(
    address: str, name: str, kind: type[SinkConfig], url: str, channel: str
) -> None:
    sink = parse_sink(address)

    assert (sink.name, type(sink), url_of(sink)) == (name, kind, url)
    assert (sink.channel if isinstance(sink, RedisConfig) else "") == channel
    assert password_of(sink) == ""


@pytest.mark.parametrize(
    ("address", "name", "url", "stream", "maxlen"),
    [
        ("redis+stream://h/0?stream=s", "redis+stream://h/0", "redis://h/0", "s", 10_000),
        ("redis+stream://h?stream=shop:events&maxlen=1", "redis+stream://h", "redis://h", "shop:events", 1),
        ("rediss+stream://h:6380/15?maxlen=500&stream=s#main", "main", "rediss://h:6380/15", "s", 500),
    ],
)
def test_a_stream_has_a_key_and_a_length(address: str, name: str, url: str, stream: str, maxlen: int) -> None:
    sink = parse_sink(address)

    assert isinstance(sink, StreamConfig)
    assert (sink.name, sink.url, sink.stream, sink.maxlen) == (name, url, stream, maxlen)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://user:hunter2@h.example/hook", "https://h.example/hook"),
        ("https://user:hunter2@h.example:8443/hook?t=1", "https://h.example:8443/hook"),
        ("https://user:hunter2@h.example/hook#crm", "crm"),
        ("redis://:hunter2@h:6379/0?channel=c", "redis://h:6379/0"),
        ("rediss://user:hunter2@h/1?channel=c", "rediss://h/1"),
        ("redis+stream://user:hunter2@h/1?stream=s", "redis+stream://h/1"),
        ("redis://user:hunter2@[::1]:6379/0?channel=c", "redis://[::1]:6379/0"),
        ("redis://user:@hunter2@h/0?channel=c", "redis://h/0"),
    ],
)
def test_user_and_password_are_kept_to_connect_and_shown_nowhere(address: str, name: str) -> None:
    sink = parse_sink(address)

    assert sink.name == name
    assert SECRET in url_of(sink)
    assert SECRET in password_of(sink)
    for shown in (sink.name, repr(sink), str(sink)):
        assert SECRET not in shown
        assert "user" not in shown


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("console:?{}", "console:"),
        ("https://h.example/a?k=v%20&{}&x#crm", "https://h.example/a?k=v%20&x"),
        ("https://h.example/a?{}", "https://h.example/a"),
        ("redis://h/0?channel=c&{}", "redis://h/0"),
        ("rediss+stream://h/0?{}&stream=s", "rediss://h/0"),
    ],
)
def test_a_filter_is_ours_and_no_part_of_the_name(address: str, url: str) -> None:
    sink = parse_sink(address.format("levels=info,error&events=new,service.*"))
    other = parse_sink(address.format("events=failed"))

    assert sink.options.filter == Filter(("new", "service.*"), ("info", "error"))
    assert other.options.filter == Filter(("failed",))
    assert url_of(sink) == url_of(other) == url
    assert sink.name == other.name


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "not a kind of sink. Use http"),
        ("h.example", "not a kind of sink"),
        ("//h.example/a", "not a kind of sink"),
        ("ftp://h.example", "ftp:// is not a kind of sink"),
        ("redis+streams://h/0?stream=s", "redis+streams:// is not a kind of sink"),
        ("mailto:shop@h.example", "not a kind of sink"),
        ("https://", "https:// has no host"),
        ("https:///path", "has no host"),
        ("https://:8443/path", "has no host"),
        ("redis://:hunter2@/0?channel=c", "has no host"),
        ("https:h.example", "has no host"),
        ("https://h.example:port/", "no valid address"),
        ("https://h.example:65536/", "no valid address"),
        ("https://[::1/", "no valid address"),
        ("https://[nonsense]/", "no valid address"),
        ("https://h\N{ACCOUNT OF}.example/", "no valid address"),  # becomes "a/c": another host
        ("redis://h/0", "redis://h/0 names no channel; add ?channel=notification:events"),
        ("redis://h/0?channel=", "names no channel"),
        ("redis://h/0?channel=c&stream=s&maxlen=9", "an option that is not known: maxlen, stream"),
        ("redis+stream://h/0", "redis+stream://h/0 names no stream; add ?stream=shop:events"),
        ("redis+stream://h/0?channel=c", "names no stream"),
        ("redis+stream:///0?stream=s", "has no host"),
        ("redis+stream://h/zero?stream=s", "number of a database"),
        ("redis://h/0?channel=c&typo=", "an option that is not known: typo"),
        ("redis://h/0?channel=c&channel=d", "has the option channel more than once"),
        ("redis+stream://h/0?stream=s&maxlen=", "a maxlen that is no number"),
        ("redis+stream://h/0?stream=a&stream=b", "has the option stream more than once"),
        ("redis+stream://h/0?stream=a&maxlen=7&maxlen=8", "has the option maxlen more than once"),
        ("https://h/?Events=new", "Events= in an address should be written events="),
        ("redis://h/0?channel=c&LEVELS=error", "LEVELS= in an address should be written levels="),
        ("redis+stream://h/0?stream=s&group=g", "an option that is not known: group"),
        ("redis+stream://h/0?stream=s&maxlen=0", "a maxlen that is no number from 1 to 999999999"),
        ("redis+stream://h/0?stream=s&maxlen=-1", "a maxlen that is no number"),
        ("redis+stream://h/0?stream=s&maxlen=1000000000", "a maxlen that is no number"),
        ("redis+stream://h/0?stream=s&maxlen=ten", "a maxlen that is no number"),
        ("redis://h/zero?channel=c", "number of a database"),
        ("redis://h/0/1?channel=c", "number of a database"),
        ("https://h.example/a#two words", "#name is made of"),
        (f"https://h.example/a#{'x' * 65}", "#name is made of"),
        ("console:#ы", "#name is made of"),
        ("console:?event=new", "console: has an option that is not known; there are events, levels, where,"),
        ("console:?events=", "events= in an address names none"),
        ("redis://h/0?channel=c&event=new", "an option that is not known: event"),
        ("https://h.example/a?levels", "https://h.example/a: levels= in an address names none"),
        ("https://h/a?where=total>x#crm", 'crm: where=: after "total >" a number is expected (at'),
        ("https://h.example/a?where=total>1&where=paid#crm", "crm: where= is there more than once"),
        ("https://h.example/a?Where=paid#crm", "crm: Where= in an address should be written where="),
        ("https://h.example/a?rate=20#crm", "crm: rate=: should be a number of 1 to 9999"),
        ("https://h.example/a?rate=1/s&rate=2/s#crm", "crm: rate= is there more than once"),
        ("apprise+tgram://123:abc/1?style=plain", "apprise+tgram: style=: should be rich"),
        ("console:?locale=de", "console: locale=: should be ru or en"),
        ("redis://h/0?channel=c&locale=en", "an option that is not known: locale"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_address_is_said(address: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_sink(address)

    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "hunter2@h:6379/0?channel=c",
        ":hunter2@h:6379/0?channel=c",
        "://:hunter2@h:6379/0?channel=c",
        "//:hunter2@h:6379/0?channel=c",
        "user:hunter2@h/hook",
        # A password that was not percent-encoded: from its / ? or # on it looks like the rest of the address.
        "https://user:/hunter2@h.example/hook",
        "https://user:12/hunter2@h.example/hook",
        "https://user:12?hunter2@h.example/hook",
        "https://user:12#hunter2@h.example/hook",
        "https://us/er:hunter2@h.example/hook",
        "redis://:/hunter2@h/0?channel=c",
        "redis://user:12/hunter2@h/0?channel=c",
        "redis://user:12?hunter2@h/0&channel=c",
        "redis://user:ab/hunter2@h/0?channel=c",
        # Or its @ was forgotten.
        "redis://user:hunter2h/0?channel=c",
        "https://user:hunter2[::1]/hook",
        "redis://:hunter2?channel=c",
    ],
)
def test_an_address_that_lost_its_shape_does_not_show_its_password(address: str) -> None:
    with pytest.raises(ValueError, match=r"not a kind of sink|no valid address|no host") as caught:
        parse_sink(address)

    assert SECRET not in str(caught.value)


# --- For all addresses --------------------------------------------------------------------------------------

names_of_hosts = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,5})?", fullmatch=True)
hosts = names_of_hosts | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map("[{}]".format)
ports = st.just("") | st.integers(1, 65535).map(":{}".format)
users = st.text(max_size=8).map(lambda user: quote(user, safe=""))
# Encoded as it should be, or raw but for what ends a user and password.
passwords = st.one_of(
    st.text(max_size=12).map(lambda text: quote(text, safe="")),
    st.text(string.ascii_letters + string.digits + "!$&'()*+,;=:@%^~_-.", max_size=12),
).flatmap(lambda text: st.sampled_from([f"{SECRET}{text}", f"{text}{SECRET}"]))
tails = st.one_of(
    st.tuples(
        st.sampled_from(["http", "https"]),
        st.sampled_from(["", "/", "/a/b", "/a?b=c", "/a?events=new", "/a#crm"]),
    ),
    st.tuples(
        st.sampled_from(["redis", "rediss"]),
        st.sampled_from(["?channel=c", "/0?channel=c", "/3?channel=c#crm"]),
    ),
    st.tuples(
        st.sampled_from(["redis+stream", "rediss+stream"]),
        st.sampled_from(["?stream=s", "/0?stream=s&maxlen=9", "/3?stream=s#crm"]),
    ),
)


@st.composite
def addresses(draw: st.DrawFn, secrets: st.SearchStrategy[str] = passwords) -> str:
    """An address with a user and a password in it."""
    scheme, tail = draw(tails)
    return f"{scheme}://{draw(users)}:{draw(secrets)}@{draw(hosts)}{draw(ports)}{tail}"


def _read(address: str) -> SinkConfig | str:
    """The sink, or why the address is refused; nothing else may happen."""
    try:
        return parse_sink(address)
    except ValueError as error:
        return str(error)


@given(st.text() | st.text(string.printable))
@example("http://[")
@example("\N{ACCOUNT OF}://\N{ACCOUNT OF}")
@example("https://h\x00/")
def test_no_text_does_more_than_be_refused(text: str) -> None:
    tried = [text, f"https://{text}", f"redis://{text}?channel=c", f"redis://h/0?{text}"]
    for address in (
        *tried,
        f"redis+stream://h/0?stream=s&{text}",
        f"redis+stream://h/0?stream=s&maxlen={text}",
    ):
        sink = _read(address)
        if isinstance(sink, SinkConfig):
            assert 1 <= len(sink.name) <= 200
            kind = address.partition(":")[0].lower().removesuffix("+stream")
            assert kind in {"http", "https", "redis", "rediss", "console"}
            assert urlsplit(url_of(sink)).scheme == kind
            assert not isinstance(sink, StreamConfig) or sink.maxlen >= 1
        else:
            assert "\n" not in sink


@given(addresses())
def test_a_good_address_with_a_password_is_accepted(address: str) -> None:
    sink = parse_sink(address)

    assert SECRET in password_of(sink)
    assert SECRET not in sink.name + repr(sink)


@given(st.data(), users, passwords)
def test_the_name_is_stable_when_user_and_password_change(
    data: st.DataObject, user: str, password: str
) -> None:
    address = data.draw(addresses())
    scheme, _, rest = address.partition("://")
    changed = f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"
    bare = f"{scheme}://{rest.rpartition('@')[2]}"

    assert parse_sink(address).name == parse_sink(changed).name == parse_sink(bare).name


@given(st.data())
def test_a_typing_mistake_never_shows_the_password(data: st.DataObject) -> None:
    address = data.draw(addresses())
    secret_at = address.index(SECRET)
    spots = [*range(secret_at), *range(secret_at + len(SECRET), len(address) + 1)]  # the password stays whole
    spot = data.draw(st.sampled_from(spots))
    slip = data.draw(st.sampled_from(["drop", "cut before", "put in"]))
    if slip == "drop":
        broken = address[:spot] + address[spot + 1 :]
    elif slip == "cut before":
        broken = address[min(spot, secret_at) :]
    else:
        broken = address[:spot] + data.draw(st.sampled_from("/?#@:[] \t%\\x")) + address[spot:]

    sink = _read(broken)
    shown = sink if isinstance(sink, str) else sink.name + repr(sink)

    assert SECRET not in shown


# --- Splitting, loopback, the listener ----------------------------------------------------------------------


def test_splitting_refuses_without_repeating_the_address() -> None:
    with pytest.raises(ValueError, match="no valid address") as caught:
        split(f"https://user:{SECRET}")

    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None  # which would repeat it in a traceback
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.1.2", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104 - nobody is listening
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("::", False),
        ("fe80::1", False),
        ("shop.example", False),
        ("localhost.shop.example", False),
        ("127.0.0.1.shop.example", False),
        ("LocalHost", True),
        ("localhost.", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("shop.localhost", False),  # a resolver may not know that
        ("127.1", False),  # some take it for loopback; then it may as well be written out
        ("2130706433", False),
        ("", False),
    ],
)
def test_only_what_stays_on_this_machine_is_loopback(host: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST.", "shop.localhost", "a.b.LocalHost.")),
        *((host, True) for host in ("localhost.localdomain", "localhost6", "ip6-localhost", "IP6-Loopback.")),
        *((host, True) for host in ("127.0.0.1", "127.255.255.254", "::1", "[::1]", "::ffff:127.0.0.1")),
        *((host, True) for host in ("0.0.0.0", "::", "::ffff:0.0.0.0", "0")),  # noqa: S104 - nobody listens
        *((host, True) for host in ("127.1", "127.0.1", "0x7f.1", "0177.0.0.1", "2130706433", "0x7f000001")),
        *((host, False) for host in ("10.0.0.1", "192.168.1.1", "126.1", "128.1", "2113929216", "0x80.1")),
        *(
            (host, False)
            for host in ("localhost.example", "mylocalhost", "127.0.0.1.example", "", "1.2.3.4.5")
        ),
        *(
            (host, False)
            for host in ("fe80::1", "2001:db8::1", "::ffff:10.0.0.1", "4294967296", "127.0.0.08")
        ),
    ],
)
def test_this_machine_is_never_reached_through_a_proxy(host: str, expected: bool) -> None:  # noqa: FBT001
    assert is_never_proxied(host) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", None),
        ("127.0.0.1:9108", ("127.0.0.1", 9108)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),  # noqa: S104 - nobody is listening
        ("[::1]:9108", ("::1", 9108)),
        ("[::]:65535", ("::", 65535)),
    ],
)
def test_the_listener_has_a_host_and_a_port_or_is_off(address: str, expected: tuple[str, int] | None) -> None:
    assert parse_listen(address) == expected


@pytest.mark.parametrize(
    "address",
    ["9108", ":9108", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1",
     "127.0.0.1:+1", "127.0.0.1: 80", "127.0.0.1:٣", "[]:9108", "127.0.0.1:" + "9" * 5000, "::1:9108",
     "user:hunter2@h:80", "http://127.0.0.1:80", "two words:80"],
)  # fmt: skip
def test_a_listener_without_host_or_port_is_refused(address: str) -> None:
    # In particular one without a host: it would be open to the world.
    with pytest.raises(ValueError, match=r"should be host:port, e\.g\. 127\.0\.0\.1:9108, or empty"):
        parse_listen(address)


@given(st.text())
def test_no_listener_does_more_than_be_refused(text: str) -> None:
    for address in (text, f"{text}:80", f"127.0.0.1:{text}"):
        try:
            parsed = parse_listen(address)
        except ValueError:
            continue
        if parsed is not None:
            assert parsed[0]
            assert 0 <= parsed[1] <= 65535


@pytest.mark.parametrize(
    ("address", "shows"),
    [
        ("https://hooks.example/services/T024/B17/aB3dE5fG7hI9kL1mN3pQ5rS7", True),
        ("https://hooks.example/services/T024/B17/aB3dE5fG7hI9kL1mN3pQ5rS7#team", False),
        ("https://n8n.example/webhook/5a7e9c1b-3d5f-4a6b-8c9d-0e1f2a3b4c5d", True),
        ("https://crm.example/hooks/orders/v2", False),
        ("https://crm.example/woocommerce-order-notifications", False),
        ("redis://redis.example:6379/0?channel=aB3dE5fG7hI9kL1mN3pQ5rS7", False),
        ("console:", False),
    ],
)
def test_a_path_that_looks_like_a_secret_is_seen_unless_there_is_a_name(address: str, *, shows: bool) -> None:
    assert parse_sink(address).shows_secret is shows
