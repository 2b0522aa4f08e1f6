"""Finds where data begins in a text from a shop: nothing after that point is quoted. Pure.

An error, a notice or a page may contain an order after its text: JSON, a dump of PHP, SQL, XML, a form. A
buyer's name or street must not enter a log that way. So a quote ends where any of these begins, even if that
is a false match.
"""

import re

_QUOTE = r"""(?:\\*["']|\\+u0022|&(?:quot|apos|\#0*3[49]|\#x2[27]);)"""
_DOUBLE = r"""(?:\\*"|\\+u0022|&(?:quot|\#0*34|\#x22);)"""
_PERSONAL_FIELD = (
    r"(?:(?:billing|shipping)\w*|(?:first|last|full|user|display|company|customer)_?names?|name|surname"
    r"|address(?:_?\w)?|street\w*|city|state|post_?code|zip|country|phone|e?-?mail|customer\w*|payment\w*"
    r"|buyer\w*|recipient\w*|receiver\w*|consignee\w*"
    # the names in other languages
    r"|фамили\w*|имя|отчеств\w*|адрес\w*|улиц\w*|город|телефон\w*|почт\w*|покупател\w*|получател\w*|клиент\w*"
    r"|nachname|vorname|stra(?:ß|ss)e|anschrift|kunde\w*|empfänger|telefon\w*"
    r"|nom|prénom|prenom|adresse|apellidos?|nombre|direcci[oó]n|tel[eé]fono|cognome|nome|indirizzo|client\w*)"
)
_COLUMN = (
    r"\b(?:(?:billing|shipping)_\w+|(?:first|last)[ _]?name|address_\d|postcode|surname|street|phone"
    r"|e-?mail)\b"
)
_PLAIN_TAG = (
    r"(?:a|abbr|article|aside|b|base|big|blockquote|body|br|button|center|code|div|em|font|footer|g|h[1-6]|head"
    r"|header|hr|html|i|iframe|img|link|main|meta|nav|noscript|p|path|pre|section|small|span|strong|sub|sup|svg"
    r"|title|tt|u)"
)
"""HTML tags that contain no data by themselves."""

DATA = re.compile(
    "|".join(
        (
            # JSON, also in HTML or within a string; an array of JavaScript or PHP. JSON has no single quotes.
            # Text with single quotes may be the headers of our own request; a buyer's fields match by name.
            rf"[\[{{]\s*(?:{_DOUBLE}|[\[{{“”„«»‘’`])|\[\s*{_QUOTE}",
            r"%(?:7B|5B)\s*%(?:22|7B|5B)",
            r"\{\s*[\w$-]{1,60}\s*:\s*(?:[\"'`\[{]|&quot;)",
            rf"{_QUOTE}\s*(?:=>|=&gt;)",
            rf"{_DOUBLE}[\w.\[\]-]{{1,60}}{_DOUBLE}\s*:",
            # print_r, var_dump, var_export, debug_zval
            r"\b(?:[Aa]rray|\w{1,60} Object)\s*\(\s*(?:\[|\d|'|\")",
            r"\[[\w:\\-]{1,60}\]\s*(?:=>|=&gt;)",
            r"\b(?:array|string|object|enum)\([\w\\]{1,60}\)|\bstdClass\b|__set_state",
            # the output of serialize
            r"\b[aOCsi]:\d{1,9}(?::[{\"]|;)",
            # SQL
            r"\b(?:INSERT\s+(?:IGNORE\s+)?INTO|REPLACE\s+INTO|DELETE\s+FROM|SELECT)\b|\bUPDATE\s+\S{1,80}\s+SET\b",
            r"\bVALUES\s*\(|\bWHERE\b",
            r"(?i:\b(?:insert\s+(?:ignore\s+)?into|replace\s+into|delete\s+from|update\s+\S{1,80}\s+set)\s)",
            r"(?i:\bselect\s[^\n]{1,200}?\sfrom\s)",
            # a form, or the query of an address
            r"(?<![\w])[\w%.\[\]-]{1,80}=[^\s&=<>\"']{0,200}&(?:amp;)?[\w%.\[\]-]{1,80}=",
            # a field with a buyer's data, with any separator before its value
            rf"(?i:(?<![^\W_]){_PERSONAL_FIELD}[\"'\]]*\s*(?:=>|->|=|:|–|—)\s*(?=\S))",
            rf"(?i:{_COLUMN})[\"']?\s+[\"']?(?=[A-ZÀ-ÞА-ЯЁ])",
            # a table in text: field names in a row
            rf"(?i:{_COLUMN}[\"']?\s*[,;|\t]\s*[\"']?\w|[,;|\t]\s*[\"']?{_COLUMN})",
            r"(?:[^\s,;|]{1,100}[,;|]){3}[^\s,;|]|\bBEGIN:V",
            # XML: names with an underscore, which HTML does not have; cells of tables, lists and forms
            r"<\?xml|<!\[CDATA|<\w{0,40}[_:]\w|<(?i:billing|shipping|order|customer|address|first|last|name)\w*[\s/>]",
            r"<(?i:table|td|th|tr|ul|ol|li|dl|dd|form|input|select|option|textarea|script|style)\b",
            rf"<(?!/?{_PLAIN_TAG}[\s/>])/?[A-Za-z]",
            # packed or in another encoding: text that is not readable here may be readable elsewhere
            r"\b(?:eyJ|W3s)[A-Za-z0-9+/=]{8}|[A-Za-z0-9+=%]{40}|\ufffd",
            # the arguments of a function
            r"(?:^|\s)#0\s|\bStack trace:|\(\s*'[^'\n]{0,200}'\s*,\s*['\d]",
        )
    )
)
"""Where data begins."""

NAMED_VALUE = re.compile(r"(\b(?:entry|near|value|string)s?:?\s+)(['\"]).{0,400}?(\2|\Z)", re.DOTALL)
"""A value that a database or PHP cannot process."""

IN_BRACKETS = re.compile(r"(\bstring\s+\()[^)\n]{0,400}(\)|\Z)")
"""A time that PHP cannot read."""

QUOTED = re.compile(r"(?<!\w)([\"'`«“”„‘])([^\"'`«»“”„‘’\n]{1,200})([\"'`»“”’])(?!\w)")
IDENTIFIER = re.compile(r"[a-z0-9.:-]{1,60}|(?=[^_/\\]*[_/\\])[\w./\\:()$?&=-]{1,200}|\W*", re.ASCII)
"""Text in quotes that is a name in a program: lower case, or with an underscore or a slash."""

UNSEEN = dict.fromkeys((0, 0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF))
"""Invisible characters. If UTF-16 is read as UTF-8, every second character is a NUL."""

WITHIN = re.compile(rf"{_DOUBLE}\s*(?::|,)\s*(?:{_DOUBLE}|[\[{{\d-])|[\]}}]\s*,\s*(?:{_DOUBLE}|[\[{{])")
"""Text between two values of JSON: the data begins before it."""

LINE_END = re.compile(r"[\n>]")

PAIRED = re.compile(r"<(script|style)\b[^>]{0,500}>.{0,5000}?</\1\s*>", re.IGNORECASE | re.DOTALL)


def before_data(text: str) -> str:
    """Return the beginning of a text, up to where data begins."""
    text = PAIRED.sub(" ", text.translate(UNSEEN))
    text = IN_BRACKETS.sub(r"\1***\2", NAMED_VALUE.sub(r"\1\2***\3", text))
    text = text[: _open_markup(text)]
    found, within = DATA.search(text), WITHIN.search(text)
    end = found.start() if found else len(text)
    if within is not None and within.start() < end:
        lines = [line.end() for line in LINE_END.finditer(text, 0, within.start())]
        end = lines[-1] if lines else 0
    return text[:end]


def without_values(text: str) -> str:
    """Return the text with everything in quotes masked, except names in a program."""
    return QUOTED.sub(lambda m: m[0] if IDENTIFIER.fullmatch(m[2]) else f"{m[1]}***{m[3]}", text)


def _open_markup(text: str) -> int:
    """Return where an unclosed comment or tag begins, because an attribute may contain anything."""
    comment, tag = text.rfind("<!--"), text.rfind("<")
    if comment >= 0 and text.find("-->", comment) < 0:
        return comment
    begins = text[tag + 1 : tag + 2]
    return tag if tag >= 0 and (begins.isalpha() or begins == "/") and ">" not in text[tag:] else len(text)
