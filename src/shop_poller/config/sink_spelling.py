"""Finds misspelled options in the address of a sink whose other parameters are the receiver's."""

import re
from collections.abc import Collection
from urllib.parse import unquote

from shop_poller.config.sinks import SinkConfig, SinkOptions
from shop_poller.core.digests import parse_digest
from shop_poller.core.showing import before_colon, shown_place
from shop_poller.core.spelling import closest
from shop_poller.core.translatable import Text

OPTION = re.compile(r"[A-Za-z]+")
OF_EVERY_SINK = ("events", "levels", "where", "rate", "quiet", "urgent", "digest")
FOR_PEOPLE = ("group", "locale", "style")
"""The names of the options, in the order of error texts."""


def option_names(*, is_for_people: bool) -> tuple[str, ...]:
    """Return the names of the options that a sink may have."""
    return (*OF_EVERY_SINK, *FOR_PEOPLE) if is_for_people else OF_EVERY_SINK


def refuse_misspelled(
    query: str, options: SinkOptions, *, sink: SinkConfig, own: Collection[str] = ()
) -> None:
    """Refuse misspelled options in a query whose other parameters are the receiver's.

    Args:
        query: without our options.
        options: that were taken.
        sink: whose address it is of.
        own: the receiver's own parameters, in lower case, that are spelled like options.

    Raises:
        ValueError: there is one; one line.
    """
    known = option_names(is_for_people=sink.is_for_people)
    for part in query.split("&"):
        name, _, value = part.partition("=")
        right = closest(name, known) if OPTION.fullmatch(name) and name.lower() not in {*known, *own} else ""
        if not right or (right == "urgent" and options.quiet is None):  # `urgent` alone is the receiver's
            continue
        if right == "digest" and not sink.is_for_people and not _is_digest(unquote(value)):
            continue
        raise ValueError(misspelled(sink.name, name, right))


def misspelled(sink: str, name: str, right: str) -> str:
    """Return the line about a parameter that is probably a misspelled option.

    Args:
        sink: the name of the sink.
        name: of the parameter; nearly the right one, so it is no secret.
        right: the name of the option.
    """
    return Text(
        "{sink}: there is no option {name}=; did you mean {right}=? If it is the receiver's own, "
        "write {code}=",
        sink=before_colon(shown_place(sink)),
        name=name,
        right=right,
        code=f"%{ord(name[0]):02X}{name[1:]}",
    )


def _is_digest(value: str) -> bool:
    try:
        parse_digest(value)
    except ValueError:
        return False
    return True
