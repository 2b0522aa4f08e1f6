"""Loads the owner's templates, checks them at start, and writes the bodies of deliveries to people.

Jinja2 is imported only if a shop has templates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache, lru_cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import structlog

from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.sinks import SinkConfig
from shop_poller.config.templates import TemplateTexts, read
from shop_poller.core.messages import Locale, MessageFormat, Renderer, in_language
from shop_poller.core.model import Notification, StatusEvent
from shop_poller.core.rich_message import RichMessage, rich_body
from shop_poller.core.translatable import Text
from shop_poller.observability.logging import ChangeLogger, Log

if TYPE_CHECKING:
    from shop_poller.core.rich_format import RichFormat
    from shop_poller.core.template_errors import BadTemplateError
    from shop_poller.core.templates import MessageTemplates

LOCALES = ("ru", "en")
DEFAULT = "default"
"""Begins the name of a template for all events."""
MOST_NAMED = 20
EXAMPLE_SHOP = "shop.example"
EXAMPLES_AT = datetime(2026, 11, 25, 12, 0, 7, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LoadedTemplates:
    """Templates as they were read and compiled.

    Attributes:
        texts: as read.
        templates: those that compile.
        problems: one line per problem, with file and line.
    """

    texts: TemplateTexts
    templates: "MessageTemplates"
    problems: tuple[str, ...]

    def line(self, error: "BadTemplateError") -> str:
        """Return an error of a template in one line, with its file."""
        where = self.texts.place(error.name)
        if not error.line:
            return Text("{name}: {problem}", name=where, problem=error.problem)
        return Text("{name}, line {line}: {problem}", name=where, line=error.line, problem=error.problem)


class RichRenderer:
    """Writes the body of a delivery to people: by the owner's template, or with the built-in text.

    Args:
        settings: of the shop.
        sink: who receives the deliveries.
        names_shop: whether titles say which shop it is, because there are several.

    Raises:
        SettingsError: a template cannot be used.
    """

    def __init__(self, settings: Settings, sink: SinkConfig, *, names_shop: bool) -> None:
        self._settings = settings
        self._sink = sink
        self._names_shop = names_shop
        self._locale: Locale = sink.options.locale or settings.shop_locale
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()
        self._loaded = load_templates(settings)
        if self._loaded is not None and self._loaded.problems:
            raise SettingsError(_as_settings(self._loaded.problems))

    def __call__(self, notification: Notification) -> str:
        """Return the body: the notification's JSON, and its rich message if the sink's style is rich."""
        if self._locale != self._settings.shop_locale:
            notification = in_language(notification, self._locale)
        if self._sink.options.style == "classic":
            return notification.body()
        wire = notification.wire()
        return rich_body(wire, self.message(wire))

    def message(self, wire: dict[str, Any]) -> RichMessage:
        """Write the message about a notification. If its template fails, this is the built-in text."""
        rich_format = _rich_format(self._locale, self._settings.time_zone, names_shop=self._names_shop)
        if self._loaded is None:
            return rich_format.message(wire)
        templates = self._loaded.templates
        name = templates.name(wire["event_type"], self._sink.name, rich_format.locale)
        if name is None:
            return rich_format.message(wire)
        from shop_poller.core.template_errors import BadTemplateError  # noqa: PLC0415 - see the module's docstring

        try:
            made = templates.message(name, rich_format, wire, hides_buyer=self._sink.hides_buyer)
        except BadTemplateError as error:
            if self._changes.changed(name, f"{error.name}:{error.line}:{error.kind}"):
                self._log.warning(
                    "template failed; the built-in text is sent",
                    template=self._loaded.texts.place(error.name),
                    line=error.line,
                    problem=error.kind,
                    event_type=wire["event_type"],
                    sink=self._sink.name,
                )
            return rich_format.message(wire)
        if self._changes.changed(name, ""):
            self._log.info("template works again", template=self._loaded.texts.place(name))
        return made


def make_renderers(settings: Settings, *, names_shop: bool) -> dict[str, Renderer]:
    """Return what writes the bodies of each sink, by the sink's name.

    Raises:
        SettingsError: a template cannot be used.
    """
    return {
        sink.name: partial(sink.render, write_rich=RichRenderer(settings, sink, names_shop=names_shop))
        for sink in settings.sinks
    }


def make_rich_format(settings: Settings, *, names_shop: bool = False) -> "RichFormat":
    """Return the built-in format of messages for people."""
    return _rich_format(settings.shop_locale, settings.time_zone, names_shop=names_shop)


@cache
def _rich_format(locale: Any, zone: ZoneInfo | None, *, names_shop: bool) -> "RichFormat":
    from shop_poller.core.rich_format import RichFormat  # noqa: PLC0415 - babel takes 10 MB
    from shop_poller.locales import texts  # noqa: PLC0415 - as above

    return RichFormat(locale, texts(locale), zone, names_shop=names_shop)


def load_templates(settings: Settings) -> LoadedTemplates | None:
    """Read and compile the templates of a shop, once per process; None if there are none."""
    source = settings.shop_templates
    return None if source is None else _load(source)


@lru_cache(maxsize=64)
def _load(source: Path | tuple[tuple[str, str], ...]) -> LoadedTemplates:
    from shop_poller.core.template_sandbox import TemplateSet  # noqa: PLC0415 - see the module's docstring
    from shop_poller.core.templates import DATA_FIELDS, VALUES, MessageTemplates  # noqa: PLC0415 - as above

    texts = read(source)
    templates = TemplateSet(texts.texts, values=VALUES, data_fields=DATA_FIELDS)
    broken = {error.name for error in templates.problems}
    loaded = LoadedTemplates(texts, MessageTemplates(frozenset(texts.texts) - broken, templates), ())
    problems = (*texts.problems, *map(loaded.line, templates.problems))
    return LoadedTemplates(texts, loaded.templates, problems)


def check_templates(shops: Sequence[Settings]) -> None:
    """Check all templates of these shops: their names, their syntax, and how they render every example.

    Raises:
        SettingsError: with every problem; each one names file and line.
    """
    by_source: dict[Any, list[Settings]] = {}
    for shop in shops:
        if shop.shop_templates is not None:
            by_source.setdefault(shop.shop_templates, []).append(shop)
    problems = [problem for users in by_source.values() for problem in _problems(users)]
    if problems:
        raise SettingsError(_as_settings(problems))


def _as_settings(problems: Sequence[str]) -> list[str]:
    return [Text("{name}: {problem}", name="SHOP_TEMPLATES", problem=problem) for problem in problems]


class _Meaning(NamedTuple):
    """What a template is for.

    Attributes:
        event: "" for all.
        locale: "" for all.
    """

    event: str
    locale: str


class _TemplateNames:
    """The names that templates may have.

    Args:
        shops: those that use the templates.
    """

    def __init__(self, shops: Sequence[Settings]) -> None:
        self._events = sorted({event for shop in shops for event, _ in shop.events})
        sinks = {sink.name: sink.is_for_people for shop in shops for sink in shop.sinks}
        self._sinks = sorted(name for name, is_for_people in sinks.items() if is_for_people)
        self._programs = sorted(name for name, is_for_people in sinks.items() if not is_for_people)
        self._meanings = {
            ".".join(part for part in (event or DEFAULT, sink, locale) if part): _Meaning(event, locale)
            for event, sink, locale in product(("", *self._events), ("", *self._sinks), ("", *LOCALES))
        }

    def meaning(self, name: str) -> _Meaning | None:
        """Return what a template is for; None if it would never be used."""
        return self._meanings.get(name)

    def problem(self, name: str) -> str:
        """Return why a template would never be used."""
        for event in (*self._events, DEFAULT):
            rest = name.removeprefix(f"{event}.")
            if rest == name:
                continue
            sink = rest.removesuffix(".ru").removesuffix(".en")
            if sink in self._programs:
                return Text("the sink {sink} receives JSON, for which there are no templates", sink=sink)
            return Text(
                "there is no sink or language {rest}; languages: {locales}; sinks: {sinks}",
                rest=rest,
                locales=", ".join(LOCALES),
                sinks=", ".join(self._sinks[:MOST_NAMED]) or Text("none"),
            )
        near = get_close_matches(name, self._meanings, n=1)
        if near:
            return Text("its name begins with no event; did you mean {near}?", near=near[0])
        there = ", ".join((*self._events, DEFAULT))
        return Text("its name begins with no event; there are {there}", there=there)


def _problems(shops: Sequence[Settings]) -> list[str]:
    """Return what is wrong with the templates that these shops share."""
    loaded = load_templates(shops[0])
    if loaded is None:
        return []
    names, problems = _TemplateNames(shops), [*loaded.problems]
    for name in loaded.texts.texts:
        meaning = names.meaning(name)
        if name.startswith("_"):  # only there to be included
            continue
        if meaning is None:
            problem = Text("{name}: {problem}", name=loaded.texts.place(name), problem=names.problem(name))
            problems.append(problem)
        elif name in loaded.templates.names:
            problems += _rendering_problem(name, meaning, loaded, shops)
    return problems


def _rendering_problem(
    name: str, meaning: _Meaning, loaded: LoadedTemplates, shops: Sequence[Settings]
) -> list[str]:
    """Render a template for every example that it is for. Return the first problem, if there is one."""
    from shop_poller.core.template_errors import BadTemplateError  # noqa: PLC0415 - see the module's docstring

    locales = [meaning.locale] if meaning.locale else sorted({shop.shop_locale for shop in shops})
    for locale in locales:
        rich_format = _rich_format(locale, shops[0].time_zone, names_shop=False)
        for example, notification in _examples(locale, _own_events(shops)):
            if meaning.event in {"", notification.event_type}:
                try:
                    loaded.templates.message(name, rich_format, notification.wire(), is_example=True)
                except BadTemplateError as error:
                    problem = Text(
                        "{problem} (example: {event}, {example})",
                        problem=loaded.line(error),
                        event=notification.event_type,
                        example=example,
                    )
                    return [problem]
    return []


def _own_events(shops: Sequence[Settings]) -> tuple[StatusEvent, ...]:
    own = {words.event: words for shop in shops for words in shop.shop_status_events.values()}
    return tuple(own.values())


@lru_cache(maxsize=8)
def _examples(locale: Any, own: tuple[StatusEvent, ...]) -> Sequence[tuple[str, Notification]]:
    from shop_poller.core.examples import examples  # noqa: PLC0415 - only a check needs them

    return tuple(examples(MessageFormat(EXAMPLE_SHOP, locale), now=EXAMPLES_AT, own=own))
