"""Writes docs/configuration.md from the settings and the sinks: `make docs`. A test compares the two."""

from pathlib import Path
from typing import Any

from shop_poller.config.settings import SECRETS, Settings
from shop_poller.sinks.registry import SINKS

PAGE = Path(__file__).with_suffix(".md")

HEAD = """\
# Configuration

Made from `src/shop_poller/config/settings.py` and the sinks in `src/shop_poller/sinks/` by `make docs`.

Settings come from, later ones going before earlier ones: the defaults, a TOML file (`--config FILE`, or the systemd
credential `shops.toml`), `.env` in the working directory, the environment, secret files.
In TOML the names are the same in lower case:

```toml
woocommerce_mcp_url = "https://shop.example/wp-json/woocommerce/mcp"
shop_polling_interval = 30
shop_notify_urls = "https://crm.example/hooks/orders#crm console:"
```

A variable marked *secret* may come from a file: `WOOCOMMERCE_CONSUMER_SECRET_FILE=/run/secrets/wc`, or a systemd
credential of the variable's name (`LoadCredential=WOOCOMMERCE_CONSUMER_SECRET:/etc/shop-poller/secret`). Its value is
never shown in a log, an error or a metric. A file that is named and has nothing in it is refused; an empty credential means
the default.

An empty value means the default (but an empty `SHOP_HTTP_LISTEN` turns the listener off). Every problem is named, all at
once, with exit code 2; `shop-poller check` looks without starting anything.

A misspelled name is an error that names the right one, in the environment, in `.env`, in TOML and in the parameters of an address.
In `.env`, every unknown name that begins with `SHOP_` or `WOOCOMMERCE_` is an error. In the environment it may be another program's:
`check` lists it ([decision 26](decisions/0026-misspelled-settings.md)).

| variable | default | meaning |
|---|---|---|
"""

SINKS_HEAD = """
## Sinks

| address | delivers by |
|---|---|
"""

TAIL = """
Each of them may have `events=new,service.*`, `levels=error,critical`, `where=total>=5000` and `rate=20/min` among its parameters;
`apprise+…` and `console:` also `locale=en` and `style=classic`:
[who gets which](notifications.md#who-gets-which). `quiet=22:00-08:00` and `group=30s` delay deliveries:
[quiet hours and groups](notifications.md#quiet-hours-and-groups). `digest=daily@09:00` adds a [digest](notifications.md#digests).

A sink's name, in logs, metrics and the state file, is its `#fragment`, else scheme, host and path. If the path is a secret,
or if you may move the receiver some day, give it a name: `https://host/secret-path#crm`. What waits in the outbox waits
for the name.
"""


def page() -> str:
    """The whole page."""
    rows = (_row(name, field) for name, field in Settings.model_fields.items())
    sinks = (f"| {sink.documented_as} | {sink.delivers_by} |\n" for sink in SINKS)
    return HEAD + "".join(rows) + SINKS_HEAD + "".join(sinks) + TAIL


def _row(name: str, field: Any) -> str:
    secret = " *(secret)*" if name in SECRETS else ""
    return f"| `{name.upper()}` | {_default(field)} | {field.description}{secret} |\n"


def _default(field: Any) -> str:
    match field.get_default():
        case _ if field.is_required():
            return "**needed**"
        case None | "":
            return ""
        case bool() as value:
            return f"`{str(value).lower()}`"
        case tuple() as words:
            return f"`{' '.join(words)}`"
        case value:
            return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
