"""The command `poll now`: asks the running daemon to poll."""

from shop_poller.cli.console import Config, Exit, load_shops_config, make_app, refused, say
from shop_poller.cli.healthcheck import EVERYWHERE
from shop_poller.config.loader import CONFIG_CREDENTIAL
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line

PATIENCE_S = 10.0
MOST_READ, MOST_SHOWN = 2000, 200
"""Characters of the answer."""

app = make_app(name="poll", no_args_is_help=True, help="Make the running daemon poll.")


@app.callback()
def _poll() -> None:
    """Make typer keep the group, although it has only one command."""


@app.command(
    epilog="""\b
Example:
  shop-poller poll now
Exit codes: 2 settings, or the daemon has another token; 3 the daemon does not answer or
does not poll."""
)
def now(config: Config = None) -> None:
    """Make the running daemon poll at once; needs its SHOP_HTTP_LISTEN and SHOP_ADMIN_TOKEN.

    Not available with [[shops]] in the file yet.
    """
    shops_config = load_shops_config(config, asks_shop=False)
    if shops_config.from_tables:
        raise refused(
            f"poll now: is not available yet with [[shops]] in {config or CONFIG_CREDENTIAL}; each shop is"
            " polled at its SHOP_POLLING_INTERVAL, see `shop-poller shops list`"
        )
    settings = shops_config.shops[0]
    if settings.shop_http_listen is None:
        raise refused("SHOP_HTTP_LISTEN: is empty, so the daemon does not listen; name an address")
    if settings.shop_admin_token is None:
        raise refused(
            "SHOP_ADMIN_TOKEN: is missing; set it to the daemon's token (openssl rand -hex 24 makes one)"
        )
    host, port = settings.shop_http_listen
    code, text = _ask(EVERYWHERE.get(host, host), port, settings.shop_admin_token.get_secret_value())
    if code == 200:
        say(text)
    elif code == 401:
        raise refused("SHOP_ADMIN_TOKEN: is not the daemon's token; set both to the same value")
    elif code == 404:
        raise refused("the daemon was started without SHOP_ADMIN_TOKEN; set it there too")
    else:
        raise refused(f"the daemon did not poll: {text or code}", Exit.SHOP)


def _ask(host: str, port: int, token: str) -> tuple[int, str]:
    """Return the status of the answer, and its first line."""
    import httpx  # noqa: PLC0415 - it is large

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
        raise refused(f"no daemon answers at {place}: {why}; is it running?", Exit.SHOP) from error
    # Another program may listen there, and its answer may contain the token.
    return answer.status_code, Masker([token]).mask(first).partition("\n")[0][:MOST_SHOWN]
