"""A language whose words are the English ones between marks; what is outside of them is not translated."""

import re
import string
from collections.abc import Iterable, Iterator, Mapping

from shop_poller.core.translatable import Catalogue, translated

MARKED = re.compile(r"⟦[^⟧]*⟧")
PHRASE = re.compile(r"(?<![\w./-])[A-Za-z']{2,} [A-Za-z']{2,}(?![\w./-])")
"""Two words in a row: no name, no value, no address."""


class _Lines(Mapping[str, str]):
    """Every template there is, with marks around each of its parts that has words."""

    def __getitem__(self, template: str) -> str:
        made = ""
        for text, name, spec, conversion in string.Formatter().parse(template):
            escaped = text.replace("{", "{{").replace("}", "}}")
            made += f"⟦{escaped}⟧" if any(map(str.isalpha, text)) else escaped
            if name is not None:
                made += (
                    "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
                )
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


CATALOGUE = Catalogue(_Lines(), lambda _: "other")


def untranslated(line: str) -> str:
    """Return the parts of a line that no catalogue can translate: names and values, if all is well."""
    return MARKED.sub("⟦⟧", translated(line, CATALOGUE))


def assert_translatable(lines: Iterable[str], *, values: Iterable[str] = ()) -> None:
    """Fail if a line has an English phrase that no catalogue can translate.

    Args:
        lines: for people.
        values: what the lines may quote as it is.
    """
    for line in lines:
        rest = untranslated(line)
        for value in values:
            rest = rest.replace(value, "")
        assert not PHRASE.search(rest), f"{rest!r} of {line!r}"
