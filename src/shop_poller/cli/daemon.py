"""Asks the running daemon for an action, over its listener. Shared by the commands that do."""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shop_poller.cli.chosen_shops import load_chosen
from shop_poller.cli.console import CommandError, Exit, refused
from shop_poller.cli.healthcheck import EVERYWHERE
from shop_poller.cli.language import language
from shop_poller.config.settings import Settings
from shop_poller.core.masking import Masker
from shop_poller.core.messages import Locale
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text, joined

PATIENCE_S = 10.0
MOST_READ, MOST_SHOWN = 2000, 200
"""Characters of the answer."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nothing: the listener has no TLS, and the certificates would be loaded for each request."""


class NotDoneError(CommandError):
    """The daemon did not do what it was asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class TargetShop:
    """A shop of the running daemon.

    Attributes:
        settings: of the shop; the daemon has the same.
        is_one_of_several: the daemon watches others, too.
    """

    settings: Settings
    is_one_of_several: bool

    @property
    def prefix(self) -> str:
        """What begins the lines about it: nothing if there is only one shop."""
        return f"{self.settings.shop}: " if self.is_one_of_several else ""


def load_target_shops(
    config: Path | None, shop: Sequence[str] | None, tag: Sequence[str] | None, *, all_shops: bool
) -> list[TargetShop]:
    """Load the settings of the shops that a command is about. For arguments and errors see `load_chosen`."""
    chosen = load_chosen(config, shop, tag, all_shops=all_shops)
    return [TargetShop(settings, len(chosen.shops_config.shops) > 1) for settings in chosen.shops]


def ask_daemon(
    target: TargetShop, action: str, fields: Mapping[str, str], *, not_done: str, locale: Locale | None = None
) -> str:
    """Ask the daemon for an action, and return the first line of its answer.

    Args:
        target: the shop.
        action: see web/status_page.py.
        fields: of the action.
        not_done: begins the error if the daemon refuses it.
        locale: the language of the answer; None for the language in use.

    Raises:
        NotDoneError: the daemon refuses it.
        CommandError: the daemon cannot be asked.
    """
    settings = target.settings
    if settings.shop_http_listen is None:
        raise CommandError(Text("SHOP_HTTP_LISTEN: is empty, so the daemon does not listen; name an address"))
    if settings.shop_admin_token is None:
        raise CommandError(
            Text(
                "SHOP_ADMIN_TOKEN: is missing; set it to the daemon's token (openssl rand -hex 24 makes one)"
            )
        )
    host, port = settings.shop_http_listen
    token = settings.shop_admin_token.get_secret_value()
    path = f"/shops/{settings.shop}/actions/{action}" if target.is_one_of_several else f"/actions/{action}"
    code, text = _post(EVERYWHERE.get(host, host), port, token, path, fields, locale=locale or language())
    if code == 200:
        return text
    if code == 401:
        raise CommandError(Text("SHOP_ADMIN_TOKEN: is not the daemon's token; set both to the same value"))
    if code == 404:
        raise CommandError(Text("the daemon was started without SHOP_ADMIN_TOKEN; set it there too"))
    raise NotDoneError(Text("{problem}: {answer}", problem=not_done, answer=text or code), Exit.SHOP)


def ask_for_each(targets: Sequence[TargetShop], ask: Callable[[TargetShop], None]) -> None:
    """Ask for each shop, also after one was refused.

    Raises:
        typer.Exit: one was refused, or the daemon cannot be asked; each reason is printed.
    """
    problems = []
    for one in targets:
        try:
            ask(one)
        except NotDoneError as error:
            problems.append(joined("", [one.prefix, error.text]))
        except CommandError as error:
            raise refused(error.text, error.code) from error
    for problem in problems[:-1]:
        refused(problem, Exit.SHOP)  # prints it
    if problems:
        raise refused(problems[-1], Exit.SHOP)


def _post(
    host: str, port: int, token: str, path: str, fields: Mapping[str, str], *, locale: Locale
) -> tuple[int, str]:
    """Return the status of the answer, and its first line."""
    import httpx  # noqa: PLC0415 - it is large

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": locale}
    try:
        with (
            httpx.Client(timeout=PATIENCE_S, trust_env=False, verify=NO_TLS) as client,
            client.stream("POST", f"http://{place}{path}", headers=headers, data=dict(fields)) as answer,
        ):
            first = next(answer.iter_text(MOST_READ), "")
    except httpx.HTTPError as error:
        why = one_line(Masker([token]).mask(str(error)), MOST_SHOWN) or type(error).__name__
        problem = Text("no daemon answers at {place}: {why}; is it running?", place=place, why=why)
        raise CommandError(problem, Exit.SHOP) from error
    # Another program may listen there, and its answer may contain the token.
    return answer.status_code, Masker([token]).mask(first).partition("\n")[0][:MOST_SHOWN]
