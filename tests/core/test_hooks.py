"""Which webhooks are genuine, held against recorded ones and against all that is nearly one."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shop_poller.core.webhooks import Verdict
from shop_poller.sources.woocommerce.hooks import WebhookVerifier
from support import wire
from support.hooks import SECRET, sign

ORDERS = ["webhook-02", "webhook-05", "webhook-07"]

bodies = st.binary(max_size=2000)
secrets = st.text(min_size=8, max_size=100)


def verifier(body: bytes, secret: str) -> WebhookVerifier:
    verifier = WebhookVerifier(secret)
    verifier.add(body)
    return verifier


def is_genuine(body: bytes, *, signature: str, secret: str) -> bool:
    return verifier(body, secret).is_genuine(signature)


def verdict(
    body: bytes, *, signature: str = "", topic: str = "order.updated", secret: str = SECRET
) -> Verdict:
    return verifier(body, secret).verdict(signature=signature, topic=topic)


@pytest.mark.parametrize("name", ORDERS)
def test_a_recorded_webhook_about_an_order_is_accepted_once_it_is_signed(name: str) -> None:
    recorded = wire.request(f"webhook/{name}")
    topic, stale = recorded.headers["x-wc-webhook-topic"], recorded.headers["x-wc-webhook-signature"]

    assert verdict(recorded.body, signature=sign(recorded.body), topic=topic) is Verdict.ACCEPTED
    assert verdict(recorded.body, signature=stale, topic=topic) is Verdict.REFUSED, (
        "signed with another secret"
    )


def test_the_recorded_ping_is_ignored() -> None:
    ping = wire.request("webhook/webhook-01")

    assert ping.body == b"webhook_id=1"
    assert verdict(ping.body) is Verdict.IGNORED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"webhook_id=",
        b"webhook_id=x",
        b"webhook_id=1\n",
        b"webhook_id=1&a=b",
        b"webhook_id=" + b"1" * 21,
    ],
)
def test_what_is_nearly_a_ping_is_refused(body: bytes) -> None:
    assert verdict(body) is Verdict.REFUSED


def test_a_ping_with_a_signature_has_to_have_the_right_one() -> None:
    assert verdict(b"webhook_id=1", signature=sign(b"webhook_id=2")) is Verdict.REFUSED
    assert verdict(b"webhook_id=1", signature=sign(b"webhook_id=1")) is Verdict.ACCEPTED


@pytest.mark.parametrize(
    "topic", ["product.updated", "customer.created", "action.x", "orders", "Order.updated", ""]
)
def test_what_is_about_something_else_is_ignored_if_it_is_genuine(topic: str) -> None:
    assert verdict(b"{}", signature=sign(b"{}"), topic=topic) is Verdict.IGNORED
    assert verdict(b"{}", signature=sign(b"[]"), topic=topic) is Verdict.REFUSED


def test_the_signature_is_the_one_that_openssl_makes() -> None:
    # printf '{"id":320}' | openssl dgst -sha256 -hmac 'a secret of the shop' -binary | base64
    signature = "/g73mmvUuI5+YWXpgm6Yq9hn3qqjiy/U+SNEtWZ1jHY="

    assert is_genuine(b'{"id":320}', signature=signature, secret="a secret of the shop")


@given(bodies, secrets)
def test_whatever_is_signed_with_the_secret_is_genuine(body: bytes, secret: str) -> None:
    assert is_genuine(body, signature=sign(body, secret), secret=secret)


@given(bodies, bodies)
def test_a_signature_fits_no_other_body(body: bytes, other: bytes) -> None:
    assume(body != other)

    assert not is_genuine(other, signature=sign(body), secret=SECRET)


@given(st.binary(min_size=1, max_size=2000), st.data())
def test_one_bit_is_enough(body: bytes, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    tampered = bytearray(body)
    tampered[bit // 8] ^= 1 << bit % 8

    assert not is_genuine(bytes(tampered), signature=sign(body), secret=SECRET)


@given(bodies, st.integers(0, 255))
def test_one_bit_of_the_signature_is_enough(body: bytes, bit: int) -> None:
    digest = bytearray(base64.b64decode(sign(body)))
    digest[bit // 8] ^= 1 << bit % 8

    assert not is_genuine(body, signature=base64.b64encode(digest).decode(), secret=SECRET)


@given(bodies, secrets)
def test_another_secret_makes_another_signature(body: bytes, other: str) -> None:
    # HMAC fills up a key with zeros: those at its end make no difference.
    assume(other.rstrip("\0") != SECRET)

    assert not is_genuine(body, signature=sign(body, other), secret=SECRET)


@given(bodies, st.text(st.characters(codec=None), max_size=100))
def test_a_malformed_signature_is_just_not_genuine(body: bytes, signature: str) -> None:
    assume(signature != sign(body))

    assert not is_genuine(body, signature=signature, secret=SECRET)


@pytest.mark.parametrize(
    "spoil", [str.lower, lambda s: s[:-1], lambda s: f"{s}=", lambda s: f"{s}\n", lambda s: f" {s}"]
)
def test_a_signature_is_compared_as_it_is_written(spoil: Callable[[str], str]) -> None:
    assert not is_genuine(b"{}", signature=spoil(sign(b"{}")), secret=SECRET)


def test_a_secret_that_is_no_utf8_counts_as_its_bytes() -> None:
    as_sent = b"caf\xe9 secret"  # codespell:ignore caf
    secret = as_sent.decode(errors="surrogateescape")  # as the environment gives it

    assert is_genuine(b"{}", signature=sign(b"{}", as_sent), secret=secret)
