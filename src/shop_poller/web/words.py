"""The names of events on the status page. Its other texts are in locales/*/page.toml."""

from shop_poller.core.digest_texts import WORDS as DIGEST_WORDS
from shop_poller.core.messages import ALERT_TEXTS, DEAD_LETTER_TEXTS, ORDER_TEXTS, SILENCE_TEXTS, Locale
from shop_poller.core.model import EventType


def event_name(event_type: str, locale: Locale) -> str | None:
    """Return the name of an event of ours; None for one of the owner's."""
    if event_type == EventType.SILENCE:
        return SILENCE_TEXTS[locale][0]
    if event_type == EventType.DIGEST:
        return DIGEST_WORDS[locale].name
    if event_type == EventType.DEAD_LETTERS:
        return DEAD_LETTER_TEXTS[locale][0]
    found = {**ORDER_TEXTS[locale], **ALERT_TEXTS[locale]}.get(event_type)
    return found[0] if found else None
