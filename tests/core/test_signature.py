"""Signatures, held against the specification's reference library."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from shop_poller.core.signature import signature, signatures, signing_key, signing_keys

# The example of the specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

keys = st.binary(min_size=24, max_size=64)
ids = st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters="."), min_size=1)
timestamps = st.integers(0, 4_000_000_000)


def _secret(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def test_the_example_of_the_specification_comes_out() -> None:
    signed = signature(signing_key(SECRET), message_id=MESSAGE_ID, timestamp=TIMESTAMP, body=BODY)

    assert signed == SIGNATURE


@given(keys, ids, timestamps, st.text())
def test_every_signature_is_the_reference_librarys(
    key: bytes, message_id: str, timestamp: int, body: str
) -> None:
    secret = _secret(key)
    reference = Webhook(secret).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body)

    ours = signature(signing_key(secret), message_id=message_id, timestamp=timestamp, body=body.encode())

    assert ours == reference


@pytest.mark.parametrize(
    "change",
    [{"message_id": "msg_other"}, {"timestamp": TIMESTAMP + 1}, {"body": BODY + b" "}, {"key": b"k" * 24}],
    ids=lambda change: next(iter(change)),
)
def test_all_that_is_signed_counts(change: dict[str, object]) -> None:
    signed = {
        "key": signing_key(SECRET),
        "message_id": MESSAGE_ID,
        "timestamp": TIMESTAMP,
        "body": BODY,
        **change,
    }

    assert signature(**signed) != SIGNATURE  # type: ignore[arg-type] # one of them is replaced above


@given(keys)
def test_the_key_is_what_the_base64_stands_for_with_or_without_the_prefix(key: bytes) -> None:
    secret = _secret(key)

    assert signing_key(secret) == key
    assert signing_key(secret.removeprefix("whsec_")) == key


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("whsec_", "should hold 24 to 64 bytes, has 0"),
        ("", "should hold 24 to 64 bytes, has 0"),
        (_secret(b"k" * 23), "should hold 24 to 64 bytes, has 23"),
        (_secret(b"k" * 65), "should hold 24 to 64 bytes, has 65"),
        (SECRET[:-1], "should be whsec_ and base64"),
        (f"{SECRET}\n", "should be whsec_ and base64"),
        (f" {SECRET}", "should be whsec_ and base64"),
        ("whsec_hunter2!hunter2!hunter2!hunter2!", "should be whsec_ and base64"),
        ("whsec_пароль", "should be whsec_ and base64"),
        ("whsec_whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "should be whsec_ and base64"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        signing_key(secret)


@given(keys, keys, st.sampled_from([" ", "  ", "\n", "\t "]))
def test_two_secrets_make_two_signatures_the_first_ones_first(new: bytes, old: bytes, between: str) -> None:
    found = signing_keys(f"{_secret(new)}{between}{_secret(old)}")
    told = {"message_id": MESSAGE_ID, "timestamp": TIMESTAMP}

    assert found == (new, old)
    made = signatures(found, **told, body=BODY)  # type: ignore[arg-type] # a table of two kinds
    assert made == " ".join(
        Webhook(_secret(key)).sign(MESSAGE_ID, datetime.fromtimestamp(TIMESTAMP, UTC), BODY.decode())
        for key in (new, old)
    )


def test_one_secret_makes_one_signature() -> None:
    made = signatures(signing_keys(SECRET), message_id=MESSAGE_ID, timestamp=TIMESTAMP, body=BODY)

    assert made == SIGNATURE


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ("", "should be one secret, or two with a space between; has 0"),
        (" ", "should be one secret, or two with a space between; has 0"),
        (f"{SECRET} {SECRET} {SECRET}", "should be one secret, or two with a space between; has 3"),
        (f"{SECRET} hunter2!", "should be whsec_ and base64"),
        (f"{SECRET},{SECRET}", "should be whsec_ and base64"),
        (f"{_secret(b'k' * 23)} {SECRET}", "should hold 24 to 64 bytes, has 23"),
    ],
)
def test_secrets_that_are_none_are_refused_without_being_shown(secrets: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        signing_keys(secrets)


@given(st.text())
def test_no_secret_does_more_than_be_refused(secret: str) -> None:
    try:
        key = signing_key(secret)
    except ValueError:
        return
    assert 24 <= len(key) <= 64
