"""Formats amounts of money as people of a locale write them, by CLDR (babel). Pure."""

from decimal import Decimal
from functools import lru_cache

from babel import Locale as BabelLocale
from babel.numbers import NumberPattern, format_decimal, get_currency_precision

NO_BREAK = "\u00a0"
UNKNOWN = "?"


def money(amount: str, *, currency: str, sign: str, locale: str) -> str:
    """Format an amount, e.g. "5 990 ₽", "$1,234.50", "¥1,200"; "? ₽" if it is unknown ("").

    A whole amount is written without decimals; another one with as many as the currency has, or more if the
    shop uses more. The sign is the shop's own one: CLDR writes "RUB" where English people read "₽".

    Args:
        amount: a decimal number as text.
        currency: the ISO 4217 code; a code that CLDR does not know counts as one with two decimals.
        sign: what the shop writes for the currency.
        locale: a language such as "ru".
    """
    number = _number(amount, currency, locale) if amount else UNKNOWN
    pattern = _pattern(locale)
    before, after = (part.replace("¤", sign) for part in (pattern.prefix[0], pattern.suffix[0]))
    if before and before[-1].isalpha():
        before += NO_BREAK
    return f"{before}{number}{after}" if sign else number


def quantity(number: str, *, locale: str) -> str:
    """Format how many of a thing, e.g. "2", "0,5"; "?" if it is unknown ("")."""
    return format_decimal(Decimal(number), locale=_locale(locale)) if number else UNKNOWN


def plural_form(count: int, *, locale: str) -> str:
    """Return the plural form of a count by CLDR, e.g. "few" for 2 in Russian."""
    form: str = _locale(locale).plural_form(count)
    return form


def _number(amount: str, currency: str, locale: str) -> str:
    value = Decimal(amount)
    places = 0
    if value != value.to_integral_value():
        own = -int(value.normalize().as_tuple().exponent)
        places = max(get_currency_precision(currency), own)
    return format_decimal(
        value, format=f"#,##0.{'0' * places}" if places else "#,##0", locale=_locale(locale)
    )


@lru_cache
def _locale(name: str) -> BabelLocale:
    return BabelLocale.parse(name)


def _pattern(locale: str) -> NumberPattern:
    pattern: NumberPattern = _locale(locale).currency_formats["standard"]
    return pattern
