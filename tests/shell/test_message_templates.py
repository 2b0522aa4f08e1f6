"""Templates from files and tables: how they are read, what is checked at start, and what a failure does."""

import importlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shop_poller.cli import check as checks
from shop_poller.config.loader import load
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import load_shops
from shop_poller.config.templates import MAX_BYTES, MAX_TEMPLATES
from shop_poller.core.messages import order_notification
from shop_poller.core.model import Delivery, Notification, OrderEvent
from shop_poller.core.rich_message import RICH
from shop_poller.runtime import message_templates
from shop_poller.runtime.factory import make_message_format
from shop_poller.runtime.message_templates import check_templates
from shop_poller.sinks.registry import parse_sink
from support.apprise_services import load_services
from support.deliveries import delivery
from support.marked_language import assert_translatable
from support.notifications import NOW, examples, message_format, order

BOT = "apprise+tgram://123456789:AAabcdefghijklmnopqrstuvwxyz12345678/777#tg"
NEW = dict(examples("ru"))["new"]
PERSONAL = dict(examples("ru"))["new, with personal data"]


def delivery_of(body: str) -> Delivery:
    return replace(delivery(), body=body)


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    message_templates._load.cache_clear()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / "templates"
    found.mkdir()
    return found


def write(directory: Path, **texts: str) -> None:
    for name, text in texts.items():
        directory.joinpath(f"{name.replace('__', '.')}.txt.j2").write_text(text, encoding="utf-8")


JINJA2 = ("unexpected end of template", "end of print statement")


def settings(
    templates: object, *, urls: str = f"console: {BOT} https://crm.example/x#crm", **more: Any
) -> Settings:
    return Settings.of(
        {
            "woocommerce_mcp_url": "https://shop.example/wp-json/woocommerce/mcp",
            "shop_notify_urls": urls,
            "shop_timezone": "Europe/Moscow",
            "shop_templates": str(templates) if isinstance(templates, Path) else templates,
            **more,
        },
        parse_sink=parse_sink,
    )


def problems(*shops: Settings) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        check_templates(shops)
    assert_translatable(caught.value.problems, values=JINJA2)
    return caught.value.problems


def message(shop: Settings, sink: str, notification: Notification = NEW) -> tuple[str, list[str]]:
    """Title and lines of what a sink gets."""
    rich = json.loads(make_message_format(shop).render(sink, notification))[RICH]
    return rich["title"], [*rich["items"], *rich["facts"], *rich["personal"]]


def test_a_template_of_a_directory_writes_the_message(directory: Path) -> None:
    write(directory, shop__order__new="Заказ {{ number }}\n{{ items_line }}")
    shop = settings(directory)
    check_templates([shop])
    assert message(shop, "tg") == ("Заказ 1002", ["Мёд липовый ×2, Прополис ×1"])
    assert message(shop, "tg", dict(examples("ru"))["test"])[0] == "Проверка связи", (
        "there is no template for it"
    )
    assert make_message_format(shop).render("crm", NEW) == NEW.body(), "programs get the JSON as before"


def test_each_sink_and_language_may_have_its_own(directory: Path) -> None:
    write(directory, default="any", shop__order__new="new", shop__order__new__tg="tg", default__en="english")
    write(directory, shop__order__new__tg__en="tg, english")
    shop, english = settings(directory), settings(directory, shop_locale="en")
    check_templates([shop, english])
    assert [message(shop, sink)[0] for sink in ("console:", "tg")] == ["new", "tg"]
    assert [message(english, sink)[0] for sink in ("console:", "tg")] == ["new", "tg, english"]
    test = dict(examples("ru"))["test"]
    assert [message(one, "tg", test)[0] for one in (shop, english)] == ["any", "english"]


def test_templates_may_be_a_table_in_the_toml_file(tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(
        'woocommerce_mcp_url = "https://shop.example/wp-json/woocommerce/mcp"\n'
        f'shop_notify_urls = "{BOT}"\n[shop_templates]\n'
        '"_line" = "{{ item.line }};"\n'
        '"shop.order.new" = """\nЗаказ {{ number }}\n'
        '{% for item in items %}\n{% include "_line" %}\n{% endfor %}\n"""\n'
    )
    shop = load(config, environ={}, dotenv=tmp_path / "no", needs_shop_keys=False, parse_sink=parse_sink)
    check_templates([shop])
    assert message(shop, "tg") == ("Заказ 1002", ["Мёд липовый ×2;Прополис ×1;"])
    config.write_text(config.read_text().replace("number", "numberx"))
    wrong = load(config, environ={}, dotenv=tmp_path / "no", needs_shop_keys=False, parse_sink=parse_sink)
    assert problems(wrong) == [
        "SHOP_TEMPLATES: shop_templates.shop.order.new, line 1: there is no value numberx;"
        " did you mean number?"
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("templates", "should be an absolute path, e.g. /etc/shop-poller/templates"),
        (7, "should be a directory of templates, or a table of them"),
        (
            {"shop": {"order": {"new": "x"}}},
            "'shop' should be the text of a template; put a name with dots into quotes",
        ),
    ],
)
def test_a_wrong_setting_is_refused(value: object, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=problem):
        settings(value)
    with pytest.raises(SettingsError, match="SHOP_TEMPLATES: should be an absolute path"):
        load(
            environ={"WOOCOMMERCE_MCP_URL": "https://shop.example/x", "SHOP_TEMPLATES": "templates"},
            dotenv=tmp_path / "no",
            needs_shop_keys=False,
            parse_sink=parse_sink,
        )


def test_every_problem_names_the_file_and_the_line(directory: Path) -> None:
    write(
        directory,
        default="{% for item in items %}\n{{ item.nme }}\n{% endfor %}",
        shop__order__new="one\n\n{{ totl }}",
        shop__order__failed="{% if false %}\n{{ total|mony }}{% endif %}",
        shop__silence="{% if data.since %}\n"
        "{% for a in range(999) %}{% for b in range(9) %}{% endfor %}{% endfor %}{% endif %}",
        shop__order__cancelled="{% if paid %}paid{% endif %}",
        shop__order__refunded="title\n{% for n in range(500) %}honey, honey{% endfor %}",
        _part="{{ 1",
    )
    there = f"SHOP_TEMPLATES: {directory}"
    assert problems(settings(directory)) == [
        f"{there}/_part.txt.j2, line 1: unexpected end of template, expected 'end of print statement'.",
        f"{there}/shop.order.failed.txt.j2, line 2: there is no filter mony; did you mean money?",
        f"{there}/shop.order.new.txt.j2, line 3: there is no value totl; did you mean total?",
        f"{there}/default.txt.j2, line 2: there is no value nme; did you mean name?"
        " (example: shop.order.new, new)",
        f"{there}/shop.order.cancelled.txt.j2: renders nothing; its first line is the title"
        " (example: shop.order.cancelled, cancelled, unpaid)",
        f"{there}/shop.order.refunded.txt.j2: renders more than 4,000 characters"
        " (example: shop.order.refunded, refunded)",
        f"{there}/shop.silence.txt.j2, line 2: takes more than 5,000 steps (loops, calls, filters,"
        " printed values) (example: shop.silence, silence)",
    ]


def test_a_template_that_would_never_be_used_is_a_problem(directory: Path) -> None:
    write(
        directory,
        shop__order__nw="x",
        shop__order__new__telegram="x",
        shop__order__new__crm="x",
        shop__order__new__de="x",
        other="x",
    )
    (directory / "notes.md").write_text("no template")
    (directory / ".hidden.txt.j2").write_text("{{")
    (directory / "old.j2").write_text("x")
    there = f"SHOP_TEMPLATES: {directory}"
    languages = "languages: ru, en; sinks: console:, tg"
    found = problems(settings(directory))
    assert found[0] == f"{there}/old.j2: is no template; the names of templates end with .txt.j2"
    assert found[1].startswith(
        f"{there}/other.txt.j2: its name begins with no event; there are service.dead_letters,"
    )
    assert found[2:] == [
        f"{there}/shop.order.new.crm.txt.j2: the sink crm receives JSON, for which there are no templates",
        f"{there}/shop.order.new.de.txt.j2: there is no sink or language de; {languages}",
        f"{there}/shop.order.new.telegram.txt.j2: there is no sink or language telegram; {languages}",
        f"{there}/shop.order.nw.txt.j2: its name begins with no event; did you mean shop.order.new?",
    ]


def test_shops_that_share_templates_may_have_different_sinks(directory: Path, tmp_path: Path) -> None:
    write(directory, default__tg="telegram {{ shop }}", default__mail="mail")
    config = tmp_path / "shops.toml"
    config.write_text(
        f'shop_templates = "{directory}"\n'
        + "".join(
            f'[[shops]]\nshop_id = "{name}"\nwoocommerce_mcp_url = "https://{name}.example/x"\n'
            f'shop_notify_urls = "{BOT.replace("#tg", f"#{sink}")}"\n'
            for name, sink in (("a", "tg"), ("b", "mail"))
        )
    )
    shops = load_shops(
        config, environ={}, dotenv=tmp_path / "no", needs_shop_keys=False, parse_sink=parse_sink
    ).shops
    check_templates(shops)
    assert message(shops[0], "tg")[0] == "telegram Пасека"
    assert "there is no sink or language mail" in problems(shops[0])[0]


def test_a_template_of_an_event_of_the_owners_is_checked_with_it(directory: Path) -> None:
    write(directory, shop__order__packing="{{ title }}: {{ message }}")
    own = {"packing": {"title": "Packing", "message": "Order {id}"}}
    check_templates([settings(directory, shop_status_events=own)])
    assert "its name begins with no event" in problems(settings(directory))[0]


def test_what_cannot_be_read_is_named(directory: Path, tmp_path: Path) -> None:
    assert problems(settings(directory)) == [
        f"SHOP_TEMPLATES: {directory}: has no file whose name ends with .txt.j2"
    ]
    message_templates._load.cache_clear()
    (directory / "default.txt.j2").write_bytes(b"one\ntwo \xff")
    (directory / "default.en.txt.j2").mkdir()
    write(directory, default__ru="x" * (MAX_BYTES + 1), shop__silence="я" * (MAX_BYTES // 2 + 1))
    assert problems(settings(directory)) == [
        f"SHOP_TEMPLATES: {directory}/default.en.txt.j2: cannot be read: Is a directory",
        f"SHOP_TEMPLATES: {directory}/default.txt.j2, line 2: is not UTF-8",
        f"SHOP_TEMPLATES: {directory}/shop.silence.txt.j2: has more than 16 KiB",
        f"SHOP_TEMPLATES: {directory}/default.ru.txt.j2: has more than 16 KiB",
    ]
    nowhere = tmp_path / "nowhere"
    assert problems(settings(nowhere)) == [
        f"SHOP_TEMPLATES: {nowhere}: cannot be read: No such file or directory"
    ]
    many = {f"_{n}": "x" for n in range(MAX_TEMPLATES + 1)}
    assert problems(settings(many)) == ["SHOP_TEMPLATES: shop_templates: has more than 200 templates"]


def test_files_may_have_a_mark_and_the_line_ends_of_windows(directory: Path) -> None:
    (directory / "default.txt.j2").write_bytes(
        "\ufefftitle\r\n{% if true %}\r\n{{ event }}\r\n{% endif %}\r\n".encode()
    )
    assert message(settings(directory), "tg") == ("title", ["shop.order.new"])


def test_files_of_a_config_map_are_links(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data/default.txt.j2").write_text("linked")
    (directory / "default.txt.j2").symlink_to(tmp_path / "..data/default.txt.j2")
    assert message(settings(directory), "tg")[0] == "linked"


def test_a_daemon_does_not_start_with_a_broken_template(directory: Path) -> None:
    write(directory, default="{{ nothing }}")
    with pytest.raises(SettingsError, match="line 1: there is no value nothing"):
        make_message_format(settings(directory))


def test_personal_data_does_not_reach_a_log(directory: Path) -> None:
    write(directory, default="{{ customer }} {{ phone }} {{ data.buyer.email }}")
    shop = settings(directory)
    assert message(shop, "console:", PERSONAL)[0] == "Анна"
    assert message(shop, "tg", PERSONAL)[0] == "Анна +7 900 000-00-00 anna@example.org"


def test_a_failing_template_loses_nothing_and_is_logged_once(directory: Path) -> None:
    write(directory, default="{{ number }}\n{{ number|int // (items|length - 40) }}")
    shop = settings(directory)
    render = make_message_format(shop).renderers["tg"]
    long = dict(examples("ru"))["new, long"]
    with capture_logs() as logs:
        for notification in (NEW, long, long, NEW, long):
            made = json.loads(render(notification))
            assert made[RICH]["title"].startswith("1002" if notification is NEW else "Новый заказ №1002")
            assert {name: made[name] for name in notification.wire()} == json.loads(notification.body())
    assert [(log["log_level"], log["event"]) for log in logs] == [
        ("warning", "template failed; the built-in text is sent"),
        ("info", "template works again"),
        ("warning", "template failed; the built-in text is sent"),
    ]
    assert {**logs[0]} == {
        "event": "template failed; the built-in text is sent",
        "log_level": "warning",
        "template": f"{directory}/default.txt.j2",
        "line": 2,
        "problem": "ZeroDivisionError",
        "event_type": "shop.order.new",
        "sink": "tg",
    }


def test_what_a_log_says_of_a_failure_has_no_value_of_the_order(directory: Path) -> None:
    write(directory, default="{{ [1][customer|length] }}{{ {}[customer] }}{{ customer|date }}")
    shop = settings(directory, urls=BOT)
    with capture_logs() as logs:
        assert message(shop, "tg")[0].startswith("Новый заказ")
    assert "Анна" not in str(logs)


def test_templates_are_read_once(directory: Path) -> None:
    write(directory, default="one")
    shop = settings(directory)
    assert message(shop, "tg")[0] == "one"
    write(directory, default="two")
    assert message(shop, "tg")[0] == "one", "a change needs a restart: what was checked is what is used"


@pytest.mark.anyio
async def test_check_says_that_templates_were_checked(directory: Path) -> None:
    write(directory, default="one", _part="x")
    found = [one async for one in checks.check(settings(directory, shop_dialect="rest", urls="console:"))]
    line = next(one for one in found if one.about == "templates")
    assert (line.part, line.ok, line.text) == ("settings", True, f"2 in {directory} write every example")


class Tags(HTMLParser):
    """The tags of a message, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


TRICKY = st.sampled_from(
    [
        "<b>",
        "</a>",
        "<a href='x'>",
        "&lt;",
        "[pay](https://evil.example)",
        "*",
        "_",
        "`",
        "~",
        "#",
        "\\",
        "!",
        "\n<u>",
    ]
)


SERVICES = {
    "html": "tgram://123456789:AAabcdefghijklmnopqrstuvwxyz12345678/777",
    "markdown": "gotify://gotify.example/token?format=markdown",
    "text": "ntfy://topic",
}


@pytest.mark.parametrize("kind", SERVICES)
@given(parts=st.lists(TRICKY | st.text(max_size=5), max_size=8))
def test_no_text_of_a_template_or_a_buyer_is_markup(kind: str, parts: list[str]) -> None:
    load_services()
    message_text = importlib.import_module("shop_poller.sinks.apprise.message_text")
    name = "".join(parts)
    shop = settings(
        {"default": "t <i>*{{ customer }}*</i>\n1 {{ customer }}\n2 <u>[x](y) {{ customer }}"}, urls=BOT
    )
    event = OrderEvent("shop.order.new", order("ru", customer=name), occurrence=1, paid=True)
    notification = order_notification(event, message_format("ru"), now=NOW)
    body = make_message_format(shop).render("tg", notification)
    rich, _ = message_text.message(delivery_of(body))
    url = SERVICES[kind]
    service = importlib.import_module("apprise").Apprise.instantiate(url)
    lines = message_text.sent_text(service, url.partition(":")[0], rich).body
    if kind == "html":
        found = Tags()
        found.feed(lines)
        assert found.tags == ["br", "br", "a"]
        expected = "".join(rich.facts) + rich.url_text
        assert found.text.replace("\u200b", "") == expected.replace("\u00a0", "\u202f")
        return
    assert len(lines.split("\n")) == 3
    own, _, link = lines.rpartition("\n")
    assert rich.url in link
    if kind == "markdown":
        assert not re.search(r"(?<!\\)(?:\\\\)*[\[*`]", own)
    else:
        assert own == "\n".join(rich.facts)


def test_what_a_sink_shows_is_without_markup(directory: Path) -> None:
    load_services()
    write(directory, default="<i>{{ customer }}</i>\n{{ number }} <u>")
    for url in (BOT, f"{BOT[:-3]}?format=markdown#tg"):
        shop = settings(directory, urls=url)
        shown = shop.sinks[0].shown(delivery_of(make_message_format(shop).render("tg", NEW)))
        assert shown == f"<i>Анна</i>\n1002 <u>\nОткрыть заказ: {NEW.data['admin_url']}"
