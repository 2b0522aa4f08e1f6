import errno
import os

import pytest

from shop_poller.core.known_lines import known
from shop_poller.core.translatable import Catalogue, translated

CATALOGUE = Catalogue(
    {
        "Permission denied": "kein Zugriff",
        "'utf-8' codec can't decode byte {byte} in position {position}: {reason}": (
            "kein UTF-8: {byte} an Stelle {position}, {reason}"
        ),
    },
    lambda _: "other",
)


@pytest.mark.parametrize(
    ("line", "german"),
    [
        (os.strerror(errno.EACCES), "kein Zugriff"),
        (str(PermissionError(errno.EACCES, "Permission denied")), "[Errno 13] kein Zugriff"),
        ("[Errno 999] Permission denied, {later}", "[Errno 999] Permission denied, {later}"),
        ("Permission denied, {later}", "Permission denied, {later}"),
        ("Permission denied (at line 2, column 13)", "kein Zugriff (at line 2, column 13)"),
        ("Permission denied (at end of document)", "kein Zugriff (at end of document)"),
        ("unknown (at end of document)", "unknown (at end of document)"),
        (
            "'utf-8' codec can't decode byte 0xff in position 1: invalid start byte",
            "kein UTF-8: 0xff an Stelle 1, invalid start byte",
        ),
        ("", ""),
    ],
)
def test_what_others_say_can_be_translated_if_it_is_known(line: str, german: str) -> None:
    assert known(line) == line
    assert translated(known(line), CATALOGUE) == german
