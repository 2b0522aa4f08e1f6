"""The command `poll`: asks the running daemon. What only it needs is imported in it, as in cli.py."""

import typer

from shop_poller.cli.console import Config, Exit, complain, load_shops_config, say
from shop_poller.cli.healthcheck import EVERYWHERE
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line

PATIENCE_S = 10.0
MOST_READ, MOST_SHOWN = 2000, 200
"""Characters of the answer."""

poll = typer.Typer(no_args_is_help=True, help="Tell the running daemon to poll.")


@poll.callback()
def _poll() -> None:
    """Without this the only command would take the place of the group."""


@poll.command(
    epilog="""\b
Example:
  shop-poller poll now
Exit codes: 2 settings, or the token is not the daemon's; 3 the daemon does not answer or
does not poll."""
)
def now(config: Config = None) -> None:
    """Tell the running daemon to poll at once; needs its SHOP_HTTP_LISTEN and SHOP_ADMIN_TOKEN.

    Not with [[shops]] in the file yet: there is no SHOP_ADMIN_TOKEN then.
    """
    from shop_poller.config.loader import CONFIG_CREDENTIAL  # noqa: PLC0415 - see the module's docstring

    shops_config = load_shops_config(config, asks_shop=False)
    if shops_config.from_tables:
        raise _failed(
            f"poll now: there is no such thing with [[shops]] in {config or CONFIG_CREDENTIAL} yet; each of"
            " them is polled at its SHOP_POLLING_INTERVAL, see `shop-poller shops list`",
            Exit.SETTINGS,
        )
    settings = shops_config.shops[0]
    if settings.shop_http_listen is None:
        raise _failed(
            "SHOP_HTTP_LISTEN: is empty, so the daemon does not listen; name an address", Exit.SETTINGS
        )
    if settings.shop_admin_token is None:
        raise _failed(
            "SHOP_ADMIN_TOKEN: is missing; set it here as for the daemon (openssl rand -hex 24 makes one)",
            Exit.SETTINGS,
        )
    host, port = settings.shop_http_listen
    code, text = _ask(EVERYWHERE.get(host, host), port, settings.shop_admin_token.get_secret_value())
    if code == 200:
        say(text)
    elif code == 401:
        raise _failed("SHOP_ADMIN_TOKEN: is not the daemon's; set both to the same", Exit.SETTINGS)
    elif code == 404:
        raise _failed("the daemon was started without SHOP_ADMIN_TOKEN; set it there, too", Exit.SETTINGS)
    else:
        raise _failed(f"the daemon did not: {text or code}", Exit.SHOP)


def _ask(host: str, port: int, token: str) -> tuple[int, str]:
    """The status of the answer, and its first line."""
    import httpx  # noqa: PLC0415 - see the module's docstring

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = {"Authorization": f"Bearer {token}"}
    try:
        with (
            httpx.Client(timeout=PATIENCE_S, trust_env=False) as client,
            client.stream("POST", f"http://{place}/actions/poll", headers=headers) as answer,
        ):
            first = next(answer.iter_text(MOST_READ), "")
    except httpx.HTTPError as error:
        why = one_line(Masker([token]).mask(str(error)), MOST_SHOWN) or type(error).__name__
        raise _failed(f"no daemon answers at {place}: {why}; is it running?", Exit.SHOP) from error
    # Whatever listens there may be another program, and may show what it was sent.
    return answer.status_code, Masker([token]).mask(first).partition("\n")[0][:MOST_SHOWN]


def _failed(problem: str, code: Exit) -> typer.Exit:
    complain(problem)
    return typer.Exit(code)
