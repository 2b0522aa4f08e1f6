"""SHOP_SINK_OPTIONS: options of sinks, by their names. The same options as in addresses, without encoding."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any
from urllib.parse import quote

from shop_poller.config.sink_spelling import option_names
from shop_poller.config.sinks import NO_OPTIONS, SinkConfig, SinkOptions, take_options
from shop_poller.config.tables import read_tables
from shop_poller.core.filters import EVERYTHING
from shop_poller.core.showing import before_colon, shown, shown_place
from shop_poller.core.spelling import closest
from shop_poller.core.translatable import Text

MOST = 100
EXAMPLE = '{"crm": {"where": "total >= 5000", "rate": "20/min"}}'
LISTS = ("events", "levels")
"""Options whose value may be a list, too."""
SETTINGS = ("shop_", "woocommerce_", "redis_", "wordpress_")
"""How settings begin. One that follows a table of options in TOML becomes an option of that sink."""


def parse(value: object) -> dict[str, dict[str, str]]:
    """Read the setting: JSON, or the same as a table.

    Returns:
        By sink and option, the value as text.

    Raises:
        ValueError: one line, what is wrong and what to do.
    """
    table = read_tables(value, example=EXAMPLE, most=MOST, of=Text("sinks"))
    return {
        sink: {option: _text(sink, option, given) for option, given in entry.items()}
        for sink, entry in table.items()
    }


def with_options(
    sinks: Sequence[SinkConfig], options: Mapping[str, Mapping[str, str]]
) -> tuple[SinkConfig, ...]:
    """Return the sinks with the options of their addresses, and these.

    Raises:
        ValueError: no sink has the name, an option is wrong, or is in the address, too.
    """
    names = [sink.name for sink in sinks]
    if unknown := [name for name in options if name not in names]:
        there = ", ".join(map(shown_place, names))
        raise ValueError(
            Text(
                "there is no sink {unknown}; there are {there}",
                unknown=shown(unknown[0], is_name=True),
                there=there,
            )
        )
    return tuple(
        replace(sink, options=_merged(sink.name, sink.options, _options(sink, options[sink.name])))
        if sink.name in options
        else sink
        for sink in sinks
    )


def _text(sink: str, option: str, given: object) -> str:
    if isinstance(given, str) and not option.startswith(SETTINGS):
        return given
    if option in LISTS and isinstance(given, list) and all(isinstance(word, str) for word in given):
        return ",".join(given)
    named = Text("{sink}: {option}", sink=shown(sink, is_name=True), option=shown(option, is_name=True))
    if option.startswith(SETTINGS):
        raise ValueError(Text("{option}: is a setting; write it above the first table", option=named))
    if option in LISTS:
        raise ValueError(Text("{option}: should be text or a list of texts", option=named))
    raise ValueError(Text("{option}: should be text", option=named))


def _options(sink: SinkConfig, given: Mapping[str, str]) -> SinkOptions:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in given.items())
    options, rest = take_options(query, name=sink.name, is_for_people=sink.is_for_people)
    if rest:
        unknown = [name for name in given if quote(name, safe="") == rest.partition("=")[0]]
        named = shown(unknown[0] if unknown else "", is_name=True)
        about = {"name": before_colon(shown_place(sink.name)), "named": named}
        right = closest(unknown[0], option_names(is_for_people=sink.is_for_people)) if unknown else ""
        if right:
            raise ValueError(
                Text(
                    "{name}: there is no option {named} of this kind of sink; did you mean {right}?",
                    **about,
                    right=right,
                )
            )
        raise ValueError(Text("{name}: there is no option {named} of this kind of sink", **about))
    return options


def _merged(sink: str, own: SinkOptions, given: SinkOptions) -> SinkOptions:
    """Return the options of an address and of the setting. Each may be in one of them."""
    chosen = replace(own.filter, **_chosen(sink, own.filter, given.filter, EVERYTHING))
    others = _chosen(sink, replace(own, filter=EVERYTHING), replace(given, filter=EVERYTHING), NO_OPTIONS)
    return replace(own, **{**others, "filter": chosen})


def _chosen(sink: str, own: Any, given: Any, default: Any) -> dict[str, Any]:
    """Return, by field, the value that is not the default."""
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(default)):
        here, there, usual = (getattr(one, name) for one in (own, given, default))
        if usual not in {here, there}:
            raise ValueError(
                Text(
                    "{sink}: {name} is in its address, too; keep one",
                    sink=before_colon(shown_place(sink)),
                    name=name,
                )
            )
        found[name] = here if there == usual else there
    return found
