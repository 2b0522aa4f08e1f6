"""Parametrizes a test with less than the whole product of its parameters' values."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

Values = Sequence[Any] | Mapping[str, Any]


def each_with_each_of(first: str, values: Values, **others: Values) -> pytest.MarkDecorator:
    """Each value of each parameter with each of the first, and not each with each of the rest.

    For parameters that do not know of one another: what one value breaks, it breaks beside whichever of the
    others. The rest goes round one place further for each value of the first, so that most pairs of the rest
    come once, too.

    Args:
        first: a parameter's name.
        values: its values, or values by the name that they have in the test's id.
        others: the other parameters and theirs.
    """
    columns = [[*_named(column).items()] for column in others.values()]
    longest = max(map(len, columns))
    cases = []
    for turn, (name, value) in enumerate(_named(values).items()):
        for row in range(longest):
            picked = [column[(row + place * turn) % len(column)] for place, column in enumerate(columns)]
            of_row = [value, *(each for _, each in picked)]
            cases.append(pytest.param(*of_row, id="-".join([name, *(named for named, _ in picked)])))
    return pytest.mark.parametrize((first, *others), cases)


def _named(values: Values) -> Mapping[str, Any]:
    return values if isinstance(values, Mapping) else {str(value): value for value in values}
