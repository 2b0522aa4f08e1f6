"""Python runs this at its start where it is on PYTHONPATH: every line that can be translated is marked.

⟦ ⟧ are around it, and its letters have accents. What has no accent was not translated.
"""

import re
from typing import Any

from shop_poller import locales
from shop_poller.core.translatable import Catalogue

PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
ACCENTED = "áƀćđéƒǵħíĵķĺɱńóƥɋŕśţúṽŵẋýźÁɃĆĐÉƑǴĦÍĴĶĹḾŃÓƤɊŔŚŢÚṼŴẊÝŹ"
ACCENTS = str.maketrans(PLAIN, ACCENTED)
PLACEHOLDER = re.compile(r"(\{[^{}]*\})")


class PseudoLines(dict[str, Any]):
    """Has a translation of every line."""

    def get(self, template: str, _default: Any = None) -> str:
        """Return a line with its marks, whatever the default."""
        pieces = PLACEHOLDER.split(template)
        return f"⟦{''.join(one if n % 2 else one.translate(ACCENTS) for n, one in enumerate(pieces))}⟧"


LINES = PseudoLines(locales.catalogue("ru").lines)
locales.catalogue = lambda _locale: Catalogue(LINES, lambda _count: "other")  # type: ignore[assignment] # a cache has more methods
