"""Reads single values of an order leniently: PHP and plugins write numbers and dates in many forms. Pure."""

import html
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from shop_poller.core.plain_text import USUAL, plain

MAX_ID = 2**63 - 1
"""The maximum that a database can store."""
MAX_NAME = 200
MAX_DATE = 40
MAX_AMOUNT = 200
MAX_DIGITS = 20
FLOAT_ERROR = 3
"""Digits between a rounded amount and the error of a binary floating-point number."""

NOISY_DIGITS = 16
"""Significant digits of a binary floating-point number. An exact amount has fewer, or few decimal places."""
MOST_PLACES = 4

PLAIN_AMOUNT = re.compile(r"-?[0-9]{1,20}(?:\.([0-9]{1,8}))?")
SHORT_AMOUNT = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,4})?")
"""The form that WooCommerce writes."""
WHOLE_NUMBER = re.compile(r"[0-9]{1,19}(?:\.0{1,10})?")
USUAL_DATE = re.compile(r"(?:19[7-9]|[2-8][0-9]{2})[0-9]-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
EPOCH = re.compile(r"[0-9]{10}(?:\.[0-9]{1,9})?|[0-9]{13}")
UTC_NAME = re.compile(r" ?(?:UTC|GMT)\Z")
SLASHES = re.compile(r"\A([0-9]{4})/([0-9]{2})/([0-9]{2})")
MAIL_DATE = re.compile(r"[A-Z]{3}, ?[0-9]")
GROUPED = re.compile(r"([+-]?[0-9]{1,3}(?:,[0-9]{3})+)(\.[0-9]+)?")
GROUPED_BY_DOTS = re.compile(r"([+-]?[0-9]{1,3}(?:\.[0-9]{3})+)(,[0-9]+)|([+-]?[0-9]{1,3}(?:\.[0-9]{3}){2,})")
DECIMAL_COMMA = re.compile(r"([+-]?[0-9]+),([0-9]{1,2}|[0-9]{4,})")
AROUND_AMOUNT = re.compile(r"^[^\d+\-.,]{1,5}(?=[\d+\-.,])|(?<=\d)[^\d]{1,6}$")
"""A currency sign or code, as people write it before or after an amount."""
TAG = re.compile(r"<[^>]{0,200}>")
ZONE = re.compile(r"[A-Za-z_]{1,30}(?:/[A-Za-z0-9_+-]{1,30}){0,2}")
OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")


def order_id(row: object) -> int | None:
    """Return the id of an item of a list, or of a refund; None if it has none."""
    return whole_number(row.get("id")) if isinstance(row, dict) else None


def whole_number(value: object) -> int | None:
    """Return an id from a number or text, also with a fraction of zero; None if the value is not an id."""
    if type(value) is int:
        return value if 0 < value <= MAX_ID else None
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) <= 60 and WHOLE_NUMBER.fullmatch(value.strip()):
        value = int(value.strip().partition(".")[0])
    if isinstance(value, float) and value.is_integer() and value < 2**53:
        value = int(value)
    return value if isinstance(value, int) and 0 < value <= MAX_ID else None


def text(value: object, longest: int) -> str:
    """Return a short text that can be shown, see core/plain_text.py; "" if it is not text or too long."""
    if type(value) is str and len(value) <= longest and USUAL.fullmatch(value):
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**longest:
        value = str(value)
    if not isinstance(value, str) or len(value) > longest:
        return ""
    return plain(value).strip()


def sign(value: object) -> str:
    """Return a currency's sign; "" if it is markup, an icon of a font, too long or not text."""
    return _sign(value) if isinstance(value, str) and len(value) <= MAX_NAME else ""


@lru_cache(maxsize=100)
def _sign(value: str) -> str:
    found = text(html.unescape(value), 20)
    if set(found) & set("<>{}[]&") or any(unicodedata.category(c) == "Co" for c in found):
        return ""
    return found


def amount(value: object) -> str:
    """Return a decimal number as text, unchanged if the shop writes one; "" if it cannot be read.

    Other forms are converted and rounded: 1.0E+2, 12.3400000000001, "1,234.50", "1 234,50 ₽".
    """
    if type(value) is str and SHORT_AMOUNT.fullmatch(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**MAX_DIGITS else ""
    said = repr(value) if isinstance(value, float) else value
    if len(said) > MAX_AMOUNT:
        return ""
    said = said.strip()
    plain = PLAIN_AMOUNT.fullmatch(said)
    if plain and (len(said) < NOISY_DIGITS or len(plain[1] or "") <= MOST_PLACES):
        return said if Decimal(said) else said.removeprefix("-")
    return _rounded(_plain(said))


def _plain(said: str) -> str:
    """Convert a number as people write it to the form that programs write."""
    said = html.unescape(TAG.sub("", said))
    said = AROUND_AMOUNT.sub("", said.strip())
    said = re.sub(r"(?<=\d)[\s'’](?=\d{3}(?!\d))", "", said)
    if found := GROUPED.fullmatch(said):
        return found[1].replace(",", "") + (found[2] or "")
    if found := GROUPED_BY_DOTS.fullmatch(said):
        return (found[1] or found[3]).replace(".", "") + (found[2] or "").replace(",", ".")
    if found := DECIMAL_COMMA.fullmatch(said):
        return f"{found[1]}.{found[2]}"
    return said


def _rounded(said: str) -> str:
    try:
        number = Decimal(said)
    except InvalidOperation:
        return ""
    if not number.is_finite() or number.adjusted() >= MAX_DIGITS:
        return ""
    if number.adjusted() < -MAX_AMOUNT:
        number = Decimal(0)
    places = 8 if number and abs(number) < Decimal("0.005") else 2
    for fewer in (2, 3, 4):
        if abs(number - round(number, fewer)) < Decimal(1).scaleb(-fewer - FLOAT_ERROR):
            places = fewer
            break
    found = f"{round(number, places):f}"
    return found if Decimal(found) else found.removeprefix("-")


def instant(value: object) -> datetime | None:
    """Return the instant in a `…_gmt` field, to the second; None if it cannot be read.

    WooCommerce writes "2026-11-23T02:03:07". A plugin may replace the T with a space, add a zone or a
    fraction, or send seconds since 1970 or an object of PHP. A database's values for "none" ("0000-00-00…",
    0) give None.
    """
    if value is None:
        return None
    if type(value) is str and USUAL_DATE.fullmatch(value):
        try:
            return datetime.fromisoformat(f"{value}+00:00")
        except ValueError:
            return None
    if isinstance(value, Mapping):
        return _of_php(value)
    found = _parsed(value)
    if found is None:
        return None
    aware = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    return aware.replace(microsecond=0)


def local_time(value: object) -> datetime | None:
    """Return a time in the shop's own zone, without a zone, because the shop does not name it.

    None if it cannot be read.
    """
    found = _parsed(value)
    return found.replace(microsecond=0) if found is not None and found.tzinfo is None else None


def _parsed(value: object) -> datetime | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = value / 1000 if 10**12 <= value < 10**13 else value  # JavaScript uses milliseconds
        if not 10**9 <= value < 10**10:
            return None
        return datetime.fromtimestamp(int(value), UTC)
    if not isinstance(value, str) or len(value) > MAX_DATE:
        return None
    value = value.strip()
    if EPOCH.fullmatch(value):
        return _parsed(int(value.partition(".")[0]))
    found = _in_words(" ".join(value.upper().split()))
    return found if found is not None and 1970 <= found.year <= 9000 else None


def _in_words(said: str) -> datetime | None:
    """Parse ISO 8601 as programs write it, or an e-mail date (RFC 5322), in upper case."""
    iso = UTC_NAME.sub("+00:00", SLASHES.sub(r"\1-\2-\3", said))
    try:
        return datetime.fromisoformat(iso)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(said) if MAIL_DATE.match(said) else None
    except (ValueError, OverflowError):
        return None


def _of_php(value: Mapping[str, object]) -> datetime | None:
    """Parse a DateTime as PHP writes it: {"date": "2026-11-23 09:50:00.000000", "timezone": "UTC", …}."""
    found, zone = _parsed(value.get("date")), value.get("timezone", "UTC")
    if found is None or not isinstance(zone, str):
        return None
    if found.tzinfo is None:
        where = _zone(zone)
        if where is None:
            return None
        found = found.replace(tzinfo=where)
    return found.astimezone(UTC).replace(microsecond=0)


def _zone(name: str) -> timezone | ZoneInfo | None:
    if name in {"UTC", "GMT", "Z"}:
        return UTC
    if offset := OFFSET.fullmatch(name):
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(ahead if offset[1] == "+" else -ahead) if ahead < timedelta(hours=24) else None
    if not ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return None
