"""Asks the running daemon for an action, over its listener. Shared by the commands that do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from shop_poller.cli.console import CommandError, Exit, load_shops_config, refused
from shop_poller.cli.healthcheck import EVERYWHERE
from shop_poller.cli.language import language
from shop_poller.config.settings import Settings
from shop_poller.config.shops import choose
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text, joined

PATIENCE_S = 10.0
MOST_READ, MOST_SHOWN = 2000, 200
"""Characters of the answer."""


EveryShop = Annotated[bool, typer.Option("--all", help="Every shop, if the file has [[shops]].")]


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


def load_target_shops(config: Path | None, shop: str | None, *, all_shops: bool) -> list[TargetShop]:
    """Load the settings of the shops that a command is about.

    Args:
        config: the file of `--config`.
        shop: the value of `--shop`.
        all_shops: whether `--all` was given.

    Raises:
        SettingsError: there are several shops, and none is named, or there is none of this id.
    """
    if all_shops and shop is not None:
        raise refused(Text("give --shop or --all, not both"))
    shops = load_shops_config(config, needs_shop_keys=False).shops
    if len(shops) > 1 and shop is None and not all_shops:
        raise refused(Text("there are several shops; name one by --shop, or give --all"))
    chosen = shops if all_shops else [choose(shops, shop)]
    return [TargetShop(settings, len(shops) > 1) for settings in chosen]


def ask_daemon(target: TargetShop, action: str, fields: Mapping[str, str], *, not_done: str) -> str:
    """Ask the daemon for an action, and return the first line of its answer.

    Args:
        target: the shop.
        action: see web/status_page.py.
        fields: of the action.
        not_done: begins the error if the daemon refuses it.

    Raises:
        NotDoneError: the daemon refuses it.
        typer.Exit: the daemon cannot be asked; the reason is printed.
    """
    settings = target.settings
    if settings.shop_http_listen is None:
        raise refused(Text("SHOP_HTTP_LISTEN: is empty, so the daemon does not listen; name an address"))
    if settings.shop_admin_token is None:
        raise refused(
            Text(
                "SHOP_ADMIN_TOKEN: is missing; set it to the daemon's token (openssl rand -hex 24 makes one)"
            )
        )
    host, port = settings.shop_http_listen
    token = settings.shop_admin_token.get_secret_value()
    path = f"/shops/{settings.shop}/actions/{action}" if target.is_one_of_several else f"/actions/{action}"
    code, text = _post(EVERYWHERE.get(host, host), port, token, path, fields)
    if code == 200:
        return text
    if code == 401:
        raise refused(Text("SHOP_ADMIN_TOKEN: is not the daemon's token; set both to the same value"))
    if code == 404:
        raise refused(Text("the daemon was started without SHOP_ADMIN_TOKEN; set it there too"))
    problem = Text("{problem}: {answer}", problem=not_done, answer=text or code)
    raise NotDoneError(joined("", [target.prefix, problem]))


def ask_for_each(targets: Sequence[TargetShop], ask: Callable[[TargetShop], None]) -> None:
    """Ask for each shop, also after one was refused.

    Raises:
        typer.Exit: one was refused; each reason is printed.
    """
    problems = []
    for one in targets:
        try:
            ask(one)
        except NotDoneError as error:
            problems.append(error.text)
    for problem in problems[:-1]:
        refused(problem, Exit.SHOP)  # prints it
    if problems:
        raise refused(problems[-1], Exit.SHOP)


def _post(host: str, port: int, token: str, path: str, fields: Mapping[str, str]) -> tuple[int, str]:
    """Return the status of the answer, and its first line."""
    import httpx  # noqa: PLC0415 - it is large

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": language()}
    try:
        with (
            httpx.Client(timeout=PATIENCE_S, trust_env=False) as client,
            client.stream("POST", f"http://{place}{path}", headers=headers, data=dict(fields)) as answer,
        ):
            first = next(answer.iter_text(MOST_READ), "")
    except httpx.HTTPError as error:
        why = one_line(Masker([token]).mask(str(error)), MOST_SHOWN) or type(error).__name__
        problem = Text("no daemon answers at {place}: {why}; is it running?", place=place, why=why)
        raise refused(problem, Exit.SHOP) from error
    # Another program may listen there, and its answer may contain the token.
    return answer.status_code, Masker([token]).mask(first).partition("\n")[0][:MOST_SHOWN]
