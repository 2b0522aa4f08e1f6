"""Asks the running daemon for an action, over its listener. Shared by the commands that do."""

from collections.abc import Mapping
from pathlib import Path

from shop_poller.cli.console import Exit, load_shops_config, refused
from shop_poller.cli.healthcheck import EVERYWHERE
from shop_poller.cli.language import language
from shop_poller.config.loader import CONFIG_CREDENTIAL
from shop_poller.config.settings import Settings
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text

PATIENCE_S = 10.0
MOST_READ, MOST_SHOWN = 2000, 200
"""Characters of the answer."""


def load_single_shop(command: str, config: Path | None, *, instead: str) -> Settings:
    """Load the settings of the only shop; several have no actions yet.

    Args:
        command: its name, for errors.
        config: the file of `--config`.
        instead: what to do with several shops, for the error.
    """
    shops_config = load_shops_config(config, asks_shop=False)
    if shops_config.from_tables:
        where = config or CONFIG_CREDENTIAL
        raise refused(
            Text(
                "{command}: is not available yet with [[shops]] in {where}; {instead}",
                command=command,
                where=where,
                instead=instead,
            )
        )
    return shops_config.shops[0]


def ask_daemon(settings: Settings, action: str, fields: Mapping[str, str], *, not_done: str) -> str:
    """Ask the daemon for an action, and return the first line of its answer.

    Args:
        settings: of the shop; the daemon has the same.
        action: see web/status_page.py.
        fields: of the action.
        not_done: begins the error if the daemon refuses it.

    Raises:
        typer.Exit: it is not done; the reason is printed.
    """
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
    code, text = _post(EVERYWHERE.get(host, host), port, token, action, fields)
    if code == 200:
        return text
    if code == 401:
        raise refused(Text("SHOP_ADMIN_TOKEN: is not the daemon's token; set both to the same value"))
    if code == 404:
        raise refused(Text("the daemon was started without SHOP_ADMIN_TOKEN; set it there too"))
    raise refused(Text("{problem}: {answer}", problem=not_done, answer=text or code), Exit.SHOP)


def _post(host: str, port: int, token: str, action: str, fields: Mapping[str, str]) -> tuple[int, str]:
    """Return the status of the answer, and its first line."""
    import httpx  # noqa: PLC0415 - it is large

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": language()}
    try:
        with (
            httpx.Client(timeout=PATIENCE_S, trust_env=False) as client,
            client.stream(
                "POST", f"http://{place}/actions/{action}", headers=headers, data=dict(fields)
            ) as answer,
        ):
            first = next(answer.iter_text(MOST_READ), "")
    except httpx.HTTPError as error:
        why = one_line(Masker([token]).mask(str(error)), MOST_SHOWN) or type(error).__name__
        problem = Text("no daemon answers at {place}: {why}; is it running?", place=place, why=why)
        raise refused(problem, Exit.SHOP) from error
    # Another program may listen there, and its answer may contain the token.
    return answer.status_code, Masker([token]).mask(first).partition("\n")[0][:MOST_SHOWN]
