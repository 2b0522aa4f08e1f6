"""The command `poll now`: asks the running daemon to poll."""

from shop_poller.cli.console import Config, make_app, say
from shop_poller.cli.daemon import ask_daemon, load_single_shop
from shop_poller.core.translatable import Text

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
    settings = load_single_shop(
        "poll now",
        config,
        instead=Text("each shop is polled at its SHOP_POLLING_INTERVAL, see `shop-poller shops list`"),
    )
    say(ask_daemon(settings, "poll", {}, not_done=Text("the daemon did not poll")))
