"""Finds the name that was probably meant by a misspelled one. Pure."""

from collections.abc import Iterable

LONGEST = 100
"""Longer names are not compared."""
SHORT = 6
"""In names with fewer letters, another letter makes another word: `date` is no misspelled `rate`."""
LETTERS_PER_EDIT = 6
MOST_EDITS = 3


def closest(name: str, known: Iterable[str]) -> str:
    """Return the known name that a name is probably a misspelling of; "" if there is none.

    Args:
        name: as it was written; case does not matter.
        known: the right names. One of them is no misspelling of itself.
    """
    if len(name) > LONGEST:
        return ""
    found = [(edits(name.lower(), right.lower()), right) for right in known if right != name]
    near = [(count, right) for count, right in found if count <= _tolerated(right)]
    return min(near)[1] if near else ""


def edits(name: str, right: str) -> int:
    """Return how many letters to add, leave out, replace or swap with the next one.

    Replacing one counts as two in short names.
    """
    if abs(len(name) - len(right)) > MOST_EDITS:
        return MOST_EDITS + 1
    replacing = 2 if min(len(name), len(right)) < SHORT else 1
    before: list[int] = []
    row = list(range(len(right) + 1))
    for at, letter in enumerate(name, 1):
        earlier, before, row = before, row, [at]
        for to, wanted in enumerate(right, 1):
            best = min(before[to] + 1, row[-1] + 1, before[to - 1] + (0 if letter == wanted else replacing))
            if at > 1 and to > 1 and name[at - 2] == wanted and letter == right[to - 2]:
                best = min(best, earlier[to - 2] + 1)
            row.append(best)
    return row[-1]


def _tolerated(right: str) -> int:
    return max(1, min(MOST_EDITS, len(right) // LETTERS_PER_EDIT))
