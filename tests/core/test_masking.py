"""No secret is left in a text, whatever form the text gave it; and all else stays."""

import base64
import html
import json
import string
import time
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.masking import CHUNK, MANY, PREFIX, WORDY, Masker
from shop_poller.core.plain_text import plain

KEY = "ck_4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6"
SECRET = "cs_9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d"
PASSWORD = "xY7k Qw2m Zr9t Lp4v Nb6c Hd8s"
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BOT = "123456789:AAGk3Vx0pQ7Zs9Yt_uW-aB2cD4eF6gH8iJk"
HARD = """it's "quoted" \\ and ä/ю"""
SECRETS = [KEY, SECRET, PASSWORD, SIGNING, BOT, HARD]


def percent(text: str, *, upper: bool = True) -> str:
    made = "".join(f"%{byte:02x}" for byte in text.encode())
    return made.upper() if upper else made


def half_percent(text: str) -> str:
    return "".join(percent(char) if at % 2 else char for at, char in enumerate(text))


def in_base64(text: str, before: str = "", after: str = "") -> str:
    return base64.b64encode(f"{before}{text}{after}".encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "in capitals": str.upper,
    "in small letters": str.lower,
    "percent": percent,
    "percent, small": lambda text: percent(text, upper=False),
    "percent, in part": half_percent,
    "as in a query": lambda text: urllib.parse.quote(text, safe=""),
    "as in a form": urllib.parse.quote_plus,
    "percent, twice": lambda text: urllib.parse.quote(percent(text), safe=""),
    "percent, three times": lambda text: percent(percent(percent(text))),
    "JSON": json.dumps,
    "JSON as PHP has it": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "JSON, all escaped": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "JSON, all escaped in capitals": lambda text: "".join(f"\\u{ord(char):04X}" for char in text),
    "JSON, all escaped, in JSON": lambda text: json.dumps("".join(f"\\u{ord(char):04x}" for char in text)),
    "\\u{}": lambda text: "".join(f"\\u{{{ord(char):x}}}" for char in text),
    "%u": lambda text: "".join(f"%u{ord(char):04x}" for char in text),
    "HTML": html.escape,
    "HTML, by number": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "HTML, by hexadecimal number": lambda text: "".join(f"&#x{ord(char):X};" for char in text),
    "HTML in JSON": lambda text: json.dumps(html.escape(text)),
    "percent in HTML": lambda text: "".join(f"&#37;{byte:02x}" for byte in text.encode()),
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "bytes, all escaped": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "UTF-16": "\0".join,
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal, capitals": lambda text: text.encode().hex().upper(),
    "broken into lines": lambda text: "\r\n ".join(text[at : at + 9] for at in range(0, len(text), 9)),
    "broken into escaped lines": lambda text: "\\n".join(text[at : at + 9] for at in range(0, len(text), 9)),
    "with unseen characters": "\u200b".join,
    "base64": in_base64,
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 without =": lambda text: in_base64(text).rstrip("="),
    "base64, one byte before": lambda text: in_base64(text, "a"),
    "base64, two bytes before": lambda text: in_base64(text, "ab", "c"),
    "base64, three bytes before": lambda text: in_base64(text, "abc", "de"),
    "Basic": lambda text: f"Basic {in_base64(text, 'somebody:')}",
    "base64 in lines": lambda text: base64.encodebytes(f"{'x' * 50}{text}".encode()).decode().strip(),
    "base64, percent": lambda text: urllib.parse.quote(in_base64(text, "u:"), safe=""),
    "base64 in base64": lambda text: in_base64(in_base64(f"user:{text}")),
    "a head in base64": lambda text: in_base64(f"Authorization: Basic {in_base64(text, 'user:')}", "GET / "),
    "base64 in hexadecimal": lambda text: in_base64(text).encode().hex(),
    "UTF-16 in base64": lambda text: base64.b64encode(text.encode("utf-16-le")).decode(),
    "percent in base64": lambda text: in_base64(percent(text)),
    "a dump with colons": lambda text: text.encode().hex(":"),
    "a dump of a program": lambda text: ", ".join(f"0x{byte:02X}" for byte in text.encode()),
    "a dump with blanks": lambda text: text.encode().hex(" "),
    "numbers": lambda text: ",".join(map(str, text.encode())),
    "numbers in lines": lambda text: json.dumps(list(text.encode()), indent=4)[1:-1].strip(),
    "quoted-printable": lambda text: "".join(f"={byte:02X}" for byte in text.encode()),
    "quoted-printable, a line that goes on": lambda text: f"{text[:14]}=\r\n{text[14:]}",
    "in wide letters": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "with accents": "\u0301".join,
    "base64, JSON as PHP has it": lambda text: json.dumps(in_base64(text, "us:")).replace("/", "\\/"),
}


def parts(form: str, length: int) -> set[str]:
    return {form[at : at + length] for at in range(len(form) - length + 1)}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_secret_is_masked(name: str, secret: str) -> None:
    form = FORMS[name](secret)
    for text in (form, f"the shop says {form} was wrong", f"{form}{form}", f"[{form}]"):
        masked = Masker(SECRETS).mask(text)
        assert "***" in masked
        assert len(masked) < len(text) - len(secret) // 2 or len(form) < 30
        left = parts(masked.replace("***", "\0"), 12)
        assert not left & parts(form, 12), masked


UNSEEN = [
    0x80, 0x9B, 0x34F, 0x61C, 0x115F, 0x17B5, 0x180E, 0x2028, 0x202E, 0x2066, 0x2800,
    0x3000, 0x3164, 0xE000, 0xFE00, 0xFFA0, 0xFFF9, 0xE0020, 0xE0100, 0x10FFFF, 0xD800,
]  # fmt: skip


@pytest.mark.parametrize("between", [chr(code) for code in UNSEEN], ids=ascii)
@pytest.mark.parametrize("secret", SECRETS)
def test_what_is_not_shown_between_the_letters_of_a_secret_does_not_hide_it(
    secret: str, between: str
) -> None:
    """It is left out after the secret was looked for, which would then be there as a whole."""
    masked = Masker(SECRETS).mask(f"the shop says {between.join(secret)} was wrong")
    shown = "".join(plain(masked).split())
    assert shown == "theshopsays***waswrong"


def test_a_byte_that_is_no_text_does_not_hide_it_either() -> None:
    raw = b"\x9b".join(bytes([byte]) for byte in SECRET.encode())
    assert Masker(SECRETS).mask_bytes(b"[" + raw + b"]") == b"[***]"


@pytest.mark.parametrize("name", FORMS)
def test_what_is_next_to_a_secret_stays(name: str) -> None:
    masked = Masker(SECRETS).mask(f"HTTP 500: [{FORMS[name](SECRET)}] is wrong")
    assert masked.startswith("HTTP 500: [")
    assert masked.endswith("] is wrong")


def test_a_header_that_is_echoed_is_masked_whole() -> None:
    token = in_base64(f"{KEY}:{SECRET}")
    masked = Masker([KEY, SECRET]).mask(
        f"HTTP/1.1 Authorization: Basic {token} X-MCP-API-Key: {KEY}:{SECRET}"
    )
    assert masked == "HTTP/1.1 Authorization: Basic *** X-MCP-API-Key: ***:***"


@pytest.mark.parametrize("form", [str, percent, in_base64, FORMS["JSON, all escaped"]])
@pytest.mark.parametrize("end", ["", "…", "...", " …"])
def test_a_secret_that_somebody_cut_is_masked_too(form: Callable[[str], str], end: str) -> None:
    whole = form(SECRET)
    step = len(whole) // len(SECRET) or 1
    for kept in range(18 * step, len(whole), step):
        masked = Masker([SECRET]).mask(f"the key {whole[:kept]}{end}")
        assert not parts(masked, 12 * step) & parts(whole, 12 * step), masked
        assert "***" in masked


def test_the_beginning_of_a_secret_at_the_end_of_a_text_is_masked_from_its_eighth_character_on() -> None:
    masker = Masker([SECRET])
    for kept in range(PREFIX, len(SECRET)):
        for end in ("", "…", "..."):
            assert masker.mask(f"key {SECRET[:kept]}{end}") == f"key ***{end}"
    assert masker.mask(f"key {SECRET[: PREFIX - 1]}") == f"key {SECRET[: PREFIX - 1]}"


def test_the_password_of_an_application_is_known_with_and_without_its_blanks() -> None:
    masker = Masker([PASSWORD])
    for form in (
        PASSWORD,
        PASSWORD.replace(" ", ""),
        PASSWORD.replace(" ", "+"),
        PASSWORD.replace(" ", "%20"),
    ):
        assert masker.mask(f"<{form}>") == "<***>"
    assert masker.mask(in_base64(PASSWORD.replace(" ", ""), "user:")) == "***"
    assert Masker([PASSWORD.replace(" ", "")]).mask(f"<{PASSWORD}>") == "<***>"


def test_a_signing_secret_is_known_without_its_prefix() -> None:
    assert Masker([SIGNING]).mask(f"key={SIGNING.removeprefix('whsec_')}!") == "key=***!"


@pytest.mark.parametrize(
    ("secret", "text", "masked"),
    [
        ("pass", "pass the password: pass", "*** the password: ***"),
        ("a", "a man, a plan, redis://:a@h", "a man, a plan, redis://:***@h"),
        ("12345", "order 1234567 for 12345", "order 1234567 for ***"),
        ("123456789", "1234567890 and 123456789", "1234567890 and ***"),
        ("pw-1", "no pw-1, pw-12", "no ***, pw-12"),
    ],
)
def test_a_short_secret_is_masked_as_a_word_and_not_every_letter(secret: str, text: str, masked: str) -> None:
    assert Masker([secret]).mask(text) == masked


ORDINARY = [
    "the shop answered 500: rest_no_route: No route was found matching the URL and request method.",
    "Заказ №1002 на сумму 5 990,00 ₽",
    '{"id": 1, "total": "0.00000000", "customer_note": "", "order_key": "wc_order_7x2bQ94d5eZf7"}',
    "00000000000000000000 ck_ cs_ Basic Bearer %20%2F \\u0041 &amp; &#65;",
    "2026-11-23T09:50:00+00:00 https://shop.example/wp-json/wc/v3/orders?page=2",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_other_texts_stay_as_they_are(text: str) -> None:
    secrets = [*SECRETS, "cs_" + "0" * 40, "smtp.example.com"]
    assert Masker(secrets).mask(text) == text
    assert Masker([]).mask(text) == text
    raw = text.encode()
    assert Masker(secrets).mask_bytes(raw) is raw


def test_of_a_hosts_name_no_part_is_a_secret() -> None:
    masker = Masker(["smtp.shop.example.com"])
    assert masker.mask("no connection to crm.shop.example.com") == "no connection to crm.shop.example.com"
    assert masker.mask("no connection to smtp.shop.example.com") == "no connection to ***"


@pytest.mark.parametrize("name", FORMS)
def test_of_many_secrets_each_is_known(name: str) -> None:
    many = [f"cs_{number:04d}{'abcdef0123456789' * 2}" for number in range(MANY)]
    masked = Masker([*many, SECRET]).mask(f"<{FORMS[name](SECRET)}>")
    assert "***" in masked
    assert not parts(masked, 12) & parts(FORMS[name](SECRET), 12)


@pytest.mark.parametrize("name", ["raw", "percent", "Basic", "JSON, all escaped"])
def test_a_large_text_is_masked_at_the_border_of_its_pieces_too(name: str) -> None:
    form = FORMS[name](SECRET).encode()
    for before in range(CHUNK - len(form) - 1, CHUNK + 2, 7):
        masked = Masker([SECRET]).mask_bytes(b"-" * before + b" " + form + b" " + b"-" * CHUNK)
        assert not {masked[at : at + 40] for at in range(CHUNK - 400, CHUNK + 400)} & parts_of(form, 40)
        assert b"***" in masked


def parts_of(form: bytes, length: int) -> set[bytes]:
    return {form[at : at + length] for at in range(len(form) - length + 1)}


secrets = st.text(string.ascii_letters + string.digits + "_-+/=:.~!$ ", min_size=16, max_size=60).filter(
    lambda text: len({*text}) > 8 and text.strip() == text and "  " not in text
)
around = st.text(max_size=30).map(lambda text: text.replace("\\", "").replace("%", "").replace("&", ""))


@given(secret=secrets, name=st.sampled_from(sorted(FORMS)), before=around, after=around)
def test_whatever_stands_around_it_a_secret_is_masked(
    secret: str, name: str, before: str, after: str
) -> None:
    form = FORMS[name](secret)
    masked = Masker([secret]).mask(f"{before} {form} {after}")
    assert "***" in masked
    assert form not in masked
    assert secret not in masked


@given(
    secret=secrets, outer=st.sampled_from(sorted(FORMS)), inner=st.sampled_from(["raw", "percent", "HTML"])
)
def test_one_form_may_be_within_another(secret: str, outer: str, inner: str) -> None:
    if "base64" in outer or outer in {"Basic", "hexadecimal", "hexadecimal, capitals"}:
        inner = "raw"  # what is packed after it was changed is another text
    form = FORMS[outer](FORMS[inner](secret))
    assert "***" in Masker([secret]).mask(f"x {form} y")


no_name = secrets.map(lambda text: text.replace(" ", "-").replace(".", "_"))
"""Secrets of which parts are looked for: 16 characters that count, and no host's name."""
dead_letters = st.text("АБжяё\u0400\u04ff中文\u4000\u9fff", min_size=1, max_size=20)


def escaped(text: str, backslashes: int = 1) -> str:
    """As in JSON, which may be in JSON itself."""
    return "".join("\\" * backslashes + f"u{ord(character):04x}" for character in text)


@given(
    secret=no_name,
    name=st.sampled_from(sorted(FORMS)),
    before=dead_letters,
    after=dead_letters,
    neighbor=st.sampled_from(["", " ", '"', "\\n"]),
)
def test_next_to_escaped_letters_of_another_alphabet_it_is_masked(
    secret: str, name: str, before: str, after: str, neighbor: str
) -> None:
    form = FORMS[name](secret)
    for backslashes in (1, 2, 3):
        text = f"{escaped(before, backslashes)}{neighbor}{form}{neighbor}{escaped(after, backslashes)}"
        masked = Masker([secret]).mask(text)
        assert "***" in masked
        assert not parts(masked, 14) & parts(form, 14)


@pytest.mark.parametrize(
    ("secret", "text", "masked"),
    [
        ("12345678", "\\u041012345678\\u0410", "\\u0410***\\u0410"),
        ("pass", "\\u0410pass\\u0410 \\u4e2dpass", "\\u0410***\\u0410 \\u4e2d***"),
        ("pass", "\\u0410passed \\u0430pas", "\\u0410passed \\u0430pas"),
        ("ключ-к-двери", escaped("а ключ-к-двери я"), escaped("а ") + "***" + escaped(" я")),
        ("门的钥匙很长很长", escaped("门的钥匙很长很长的"), "***" + escaped("的")),
    ],
)
def test_an_escaped_letter_ends_a_word_and_may_be_of_a_secret(secret: str, text: str, masked: str) -> None:
    assert Masker([secret]).mask(text) == masked
    assert Masker([secret, SECRET]).mask(text) == masked


@given(
    signs=st.permutations(string.ascii_lowercase + string.digits),
    length=st.integers(WORDY, 24),
    start=st.integers(0, 20),
    page=st.text(string.digits + ' {}":,.е', max_size=80),
)
def test_any_part_of_a_secret_is_masked_wherever_it_begins(
    signs: list[str], length: int, start: int, page: str
) -> None:
    secret = "".join(signs)
    part = secret[start : start + length]
    assert part not in Masker([secret, KEY]).mask(f"{page}({part}){page}")


@pytest.mark.parametrize("shown", ["ѱвгдежзийклмн", "Ѳвгдежзийклмн", "бвгдежзийклмѱ", "бвгдежзийклмп"])
@pytest.mark.parametrize("secret", ["бвгдежзийклмн", "ввгдежзийклмо"])
def test_no_half_of_a_letter_is_left_next_to_a_part_of_a_secret(secret: str, shown: str) -> None:
    """The other letter shares a byte with the secret's."""
    masked = Masker([secret]).mask(f"see {shown}!")
    assert masked.startswith("see ")
    assert masked.endswith("!")
    assert "вгдежзийклм" not in masked


def test_the_short_form_of_a_secret_with_wide_blanks_is_masked() -> None:
    assert Masker(["a\u2003\u2003b"]).mask("x=a+b.") == "x=***."
    assert Masker(["a\u2003\u2003b", SECRET]).mask("a+b") == "***"


HOSTILE = [
    "\\", "\\u", "\\u041", "\\\\u0410", "\\u{0000", "%5c", "%255c", "&bsol;", "&#0000", "=\r", "\r", "\n",
    "\0", "\x80", "12, ", "0x", "aa-", "=4", "A" * 23 + " ", "a" * 24 + " ", KEY[:6], KEY[:9] + " ", "한",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_no_text_takes_long(unit: str) -> None:
    """The slowest takes about 0.2 s. Where the time grows with the square of the length, it is a minute."""
    masker = Masker([*SECRETS, "pass"])
    raw = unit.encode("utf-8") * (CHUNK // len(unit.encode("utf-8")))
    began = time.process_time()
    masker.mask_bytes(raw)
    assert time.process_time() - began < 5


@given(st.text(max_size=300))
def test_any_text_can_be_looked_at(text: str) -> None:
    masker = Masker(SECRETS)
    once = masker.mask(text)
    assert masker.mask(once) == once
    assert masker.mask_bytes(text.encode("utf-8", "surrogatepass")) is not None


@given(st.binary(max_size=300))
def test_any_bytes_can_be_looked_at(raw: bytes) -> None:
    assert Masker(SECRETS).mask_bytes(raw + SECRET.encode() + raw).count(b"***") >= 1


@given(secret=secrets, text=st.text(max_size=200))
def test_a_line_of_json_stays_json(secret: str, text: str) -> None:
    line = json.dumps({"event": f"{text} {secret} {text}", "n": 1}, ensure_ascii=False)
    assert json.loads(Masker([secret]).mask(line))["n"] == 1


@pytest.mark.parametrize("secrets", [[], ["", " "]])
def test_without_a_secret_nothing_is_looked_for(secrets: list[str]) -> None:
    masker, raw = Masker(secrets), SECRET.encode() * CHUNK
    assert not masker
    assert masker.mask_bytes(raw) is raw
    assert list(masker.find(raw)) == []
    assert Masker([SECRET])


def test_a_long_text_without_a_secret_stays_the_object_that_it_is() -> None:
    raw = b"a word " * CHUNK
    assert Masker(SECRETS).mask_bytes(raw) is raw


@pytest.mark.parametrize("filling", ["0", "01", "0123"])
def test_a_filling_is_no_part_of_a_secret_that_has_some(filling: str) -> None:
    secret = "k9" + filling * (24 // len(filling)) + "x7Kq9Wm2Zr"
    masker, said = Masker([secret]), filling * (12 // len(filling))
    assert masker.mask(f"balance {said} m") == f"balance {said} m"
    assert masker.mask(f"key {secret} m") == "key *** m"


def test_what_is_next_to_an_id_in_hex_is_still_masked() -> None:
    said = f"request 0d5e9c41-8a2f-4e6b-9d10-6f1d2c5e3b7a: {in_base64(SECRET)}"
    assert Masker(SECRETS).mask(said) == "request 0d5e9c41-8a2f-4e6b-9d10-6f1d2c5e3b7a: ***"
