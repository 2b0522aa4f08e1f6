"""Whatever a peer says back of what it was sent, in whatever form, no error of an adapter has it."""

import importlib
import logging
import re
import warnings
from pathlib import Path

import httpx
import pytest
from redis.exceptions import AuthenticationError, MovedError, ReadOnlyError, ResponseError

from core.test_masking import FORMS, parts
from shop_poller.config.addresses import secrets_in
from shop_poller.config.redis_address import parse_redis
from shop_poller.config.settings import Settings
from shop_poller.core.errors import PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.masking import Masker
from shop_poller.http.client import transport_errors
from shop_poller.runtime.factory import shop_credentials
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.http.redirects import advice
from shop_poller.sinks.redis.config import RedisConfig
from shop_poller.sinks.redis.sink import Server
from shop_poller.sinks.registry import parse_sink
from shop_poller.sources.woocommerce.connection import ShopConnection
from shop_poller.sources.woocommerce.credentials import api_key, application_password, basic_key
from shop_poller.stores.redis.connection import ConnectionPool, RedisConnection


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


with warnings.catch_warnings():
    # Apprise imports modules that Python itself says are old; that is no fault of ours.
    warnings.simplefilter("ignore")
    importlib.import_module("apprise").Apprise.instantiate("json://loaded")

PASSWORD = "Tr0ub4dor-3xQ7vZ9kLm2"
OTHER = "s3nt1nel-Pw8yR5tW2nB6"
TOKEN = "AAGk3Vx0pQ7Zs9YtuWaB2cD4eF6gH8iJk"
PLAIN = {name: form for name, form in FORMS.items() if name != "with unseen characters"}


def masked(text: str, form: str, whole: str) -> None:
    assert "***" in text, text
    assert len(text.splitlines()) == 1
    assert not parts(text, 14) & (parts(form, 14) | parts(whole, 14)), text


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", [ResponseError, ReadOnlyError])
def test_a_sink_in_redis(name: str, kind: type[Exception]) -> None:
    server = Server(RedisConfig.parse(f"redis://u:{PASSWORD}@h/0?channel=c"), connections=1)
    form = FORMS[name](PASSWORD)
    masked(str(server._named(kind(f"unknown command: AUTH {form} beginning"))), form, PASSWORD)


def test_where_a_cluster_sends_us_is_no_place_for_a_password() -> None:
    server = Server(RedisConfig.parse(f"redis://u:{PASSWORD}@h/0?channel=c"), connections=1)
    masked(str(server._named(MovedError(f"1 {PASSWORD}:6379"))), PASSWORD, PASSWORD)
    assert "ACL" in str(server._named(AuthenticationError(PASSWORD)))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("secret", [PASSWORD, OTHER])
def test_a_state_in_redis(name: str, secret: str) -> None:
    address = parse_redis(f"redis+sentinel://u:{PASSWORD}@h/m/0?sentinel_password={OTHER}")
    connection = RedisConnection(address, ConnectionPool.__new__(ConnectionPool))
    form = FORMS[name](secret)
    masked(connection._text(ResponseError(f"unknown command: AUTH {form} beginning")), form, secret)


@pytest.mark.parametrize("name", FORMS)
def test_apprise(name: str) -> None:
    sink = parse_sink(f"apprise+tgram://123456789:{TOKEN}/777000#boss").open(signing_keys=(), connections=1)
    form = FORMS[name](TOKEN)
    masked(sink._clean(f"error=500, https://api.telegram.org/bot{form}/send"), form, TOKEN)  # type: ignore[attr-defined]


def said(error: Exception, mask: Masker) -> str:
    with pytest.raises(ShopPollerError) as caught, transport_errors("the shop", mask.mask):
        raise error
    assert isinstance(caught.value, TemporaryError | PermanentError)
    return str(caught.value)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    "kind", [httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectError, httpx.ProxyError, OSError]
)
def test_what_a_transport_quotes(name: str, kind: type[Exception]) -> None:
    form = FORMS[name](PASSWORD)
    masked(said(kind(f"odd line: {form} was odd"), Masker([PASSWORD])), form, PASSWORD)


@pytest.mark.parametrize("kind", [httpx.RemoteProtocolError, httpx.ConnectError])
def test_it_is_masked_before_it_is_cut(kind: type[Exception]) -> None:
    for before in range(150, 215):
        text = said(kind(f"{'-' * before}{PASSWORD} {PASSWORD}"), Masker([PASSWORD]))
        assert PASSWORD[:4] not in text


@pytest.mark.anyio
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("secret", [PASSWORD, OTHER, TOKEN])
async def test_what_a_shop_sends(name: str, secret: str) -> None:
    shop = ShopConnection(f"https://h/?token={TOKEN}", basic_key(f"ck_{PASSWORD}", f"cs_{PASSWORD}", [OTHER]))
    form = FORMS[name](secret)
    body = (await shop._cleared_in_steps(f"<p>{form}</p>".encode())).decode()
    assert "***" in body
    assert not parts(body, 14) & parts(form, 14)
    in_header = form.replace("\r", "").replace("\n", "").encode("utf-8")
    response = httpx.Response(500, headers=[(b"x-said", in_header)])
    shop._clear_headers(response)
    assert "***" in response.headers["x-said"]


@pytest.mark.parametrize(
    "credentials",
    [api_key("ck_" + PASSWORD, "cs_" + OTHER), basic_key("ck_" + PASSWORD, "cs_" + OTHER),
     application_password("admin", PASSWORD)],
    ids=["api key", "basic key", "application password"],
)  # fmt: skip
def test_each_header_that_proves_who_we_are_is_masked(credentials: object) -> None:
    (value,) = credentials.headers.values()  # type: ignore[attr-defined]
    told = credentials.masker.mask(f"you sent {value}.")  # type: ignore[attr-defined]
    assert re.fullmatch(r"you sent (Basic )?\*\*\*(:\*\*\*)?\.", told)
    assert PASSWORD not in repr(credentials)


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("https://h/?consumer_secret=cs_12345678&page=2", ["cs_12345678"]),
        ("https://u:p%40ssword@h/", ["p%40ssword", "p@ssword"]),
        ("https://lonely-token-1@h/", ["lonely-token-1"]),
        ("https://h/?rest_route=/wc/v3/orders&via=wp-json/wc/&lang=ru", []),
        ("https://h/wp-json/wc/v3/orders", []),
        ("https://[::1", []),
    ],
)
def test_what_of_an_address_is_a_secret(url: str, secrets: list[str]) -> None:
    assert secrets_in(url) == secrets


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        (f"https://api.telegram.org/bot123456789:{TOKEN}/sendMessage", f"bot123456789:{TOKEN}"),
        (
            "https://hooks.slack.com/services/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",
            "xYz81QmN4vLpR7sKw2HdC9ef",
        ),
        (f"https://crm.example/hook/{TOKEN}/x#crm", TOKEN),
        (f"https://crm.example/hook?key={TOKEN}", TOKEN),
    ],
)
def test_a_secret_in_a_sinks_path_or_query_is_known(address: str, secret: str) -> None:
    sink = HttpConfig.parse(address)
    assert secret in sink.secrets
    assert secret not in sink.name
    answer = httpx.Response(
        302, headers={"location": f"https://other.example/{secret}/{FORMS['percent'](secret)}"}
    )
    assert secret[:12] not in advice(sink, answer)


def test_settings_know_the_secrets_in_every_address(tmp_path: Path) -> None:
    settings = Settings.of(
        {
            "woocommerce_mcp_url": f"https://shop.example/wp-json/woocommerce/mcp?key={TOKEN}",
            "shop_notify_urls": f"https://crm.example/{OTHER}x9#crm",
            "shop_state_url": f"sqlite:///{tmp_path}/x.db",
            "shop_webhook_secret": PASSWORD,
        },
        parse_sink=parse_sink,
    )
    assert {TOKEN, PASSWORD} <= {*settings.secrets}
    assert shop_credentials(settings).other_secrets == (PASSWORD,)
    assert PASSWORD not in repr(shop_credentials(settings))


def test_apprises_own_log_goes_nowhere() -> None:
    importlib.import_module("shop_poller.sinks.apprise.sink")
    assert not logging.getLogger("apprise").propagate
