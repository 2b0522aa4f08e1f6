"""The command `poll now`: asks the running daemon to poll."""

from shop_poller.cli.console import Config, ShopId, make_app, say
from shop_poller.cli.daemon import EveryShop, TargetShop, ask_daemon, ask_for_each, load_target_shops
from shop_poller.core.translatable import Text, joined

app = make_app(name="poll", no_args_is_help=True, help="Make the running daemon poll.")


@app.callback()
def _poll() -> None:
    """Make typer keep the group, although it has only one command."""


@app.command(
    epilog="""\b
Examples:
  shop-poller poll now
  shop-poller poll now --all
Exit codes: 2 settings, or the daemon has another token; 3 the daemon does not answer or
does not poll."""
)
def now(*, config: Config = None, shop: ShopId = None, all_shops: EveryShop = False) -> None:
    """Make the running daemon poll at once; needs its SHOP_HTTP_LISTEN and SHOP_ADMIN_TOKEN."""

    def ask(one: TargetShop) -> None:
        answer = ask_daemon(one, "poll", {}, not_done=Text("the daemon did not poll"))
        say(joined("", [one.prefix, answer]))

    ask_for_each(load_target_shops(config, shop, all_shops=all_shops), ask)
