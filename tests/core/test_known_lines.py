import errno
import os

import pytest

from shop_poller.core.known_lines import known
from shop_poller.core.translatable import Catalogue, translated

CATALOGUE = Catalogue({"Permission denied": "kein Zugriff"}, lambda _: "other")


@pytest.mark.parametrize(
    ("line", "german"),
    [
        (os.strerror(errno.EACCES), "kein Zugriff"),
        (str(PermissionError(errno.EACCES, "Permission denied")), "[Errno 13] kein Zugriff"),
        ("[Errno 999] Permission denied, {later}", "[Errno 999] Permission denied, {later}"),
        ("Permission denied, {later}", "Permission denied, {later}"),
        ("", ""),
    ],
)
def test_what_others_say_can_be_translated_if_it_is_known(line: str, german: str) -> None:
    assert known(line) == line
    assert translated(known(line), CATALOGUE) == german
