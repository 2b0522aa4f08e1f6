"""All that a system test needs: a shop, a receiver, and a directory where shop-poller is at home."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.simulator.shop import SimulatedShop
from support.commands import Finished, Running, run_command, started, wait_until
from support.receivers import Receiver, receiving
from support.simulated import RunningShop, shop_in_thread

SHOP_ID = "honey.example"


OF_ONE = ("WOOCOMMERCE_MCP_URL", "WOOCOMMERCE_CONSUMER_KEY", "WOOCOMMERCE_CONSUMER_SECRET", "SHOP_ID")


@dataclass
class Site:
    """A shop that is open, a receiver that listens, and settings that fit them.

    Attributes:
        home: the directory that every command runs in.
        served: the shop.
        receiver: the one sink, unless a test names others.
        settings: of every command; None takes one out.
    """

    home: Path
    served: RunningShop
    receiver: Receiver
    settings: dict[str, str | None] = field(default_factory=dict)

    @property
    def shop(self) -> SimulatedShop:
        return self.served.shop

    @property
    def state(self) -> Path:
        """The state file."""
        return self.home / "state" / "shop-poller.db"

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The settings of a command, some of them changed, or taken out by None."""
        settings: dict[str, str | None] = {
            "WOOCOMMERCE_MCP_URL": self.served.url,
            "WOOCOMMERCE_CONSUMER_KEY": DEMO_KEY.consumer_key,
            "WOOCOMMERCE_CONSUMER_SECRET": DEMO_KEY.consumer_secret,
            "SHOP_ID": SHOP_ID,
            "SHOP_POLLING_INTERVAL": "1",
            "SHOP_STATE_URL": f"sqlite:///{self.state}",
            "SHOP_NOTIFY_URLS": self.receiver.url,
            "SHOP_HTTP_LISTEN": "127.0.0.1:0",
            **self.settings,
            **changes,
        }
        return {name: value for name, value in settings.items() if value is not None}

    def name_shops(self, urls: Mapping[str, str]) -> None:
        """Write shops.toml, with the shops of these ids and addresses; the settings name none any more."""
        (self.home / "key").write_text(DEMO_KEY.consumer_key, encoding="utf-8")
        (self.home / "key").chmod(0o600)
        self.settings.update(dict.fromkeys(OF_ONE), SHOP_SECRET=DEMO_KEY.consumer_secret)
        tables = (
            f"""
            [[shops]]
            shop_id = "{name}"
            woocommerce_mcp_url = "{url}"
            woocommerce_consumer_key_file = "key"
            woocommerce_consumer_secret_env = "SHOP_SECRET"
            """
            for name, url in urls.items()
        )
        (self.home / "shops.toml").write_text("".join(tables), encoding="utf-8")

    def run(self, *args: str, **changes: str | None) -> Finished:
        """Run a command to its end."""
        return run_command(args, home=self.home, env=self.environment(**changes))

    def once(self, **changes: str | None) -> Finished:
        """`run --once`."""
        return self.run("run", "--once", **changes)

    def status(self, **changes: str | None) -> Any:
        """What `status --json` says; its exit code says whether there are problems."""
        found = self.run("status", "--json", **changes)
        assert (found.code, found.stderr) == (3 if '"problems"' in found.stdout else 0, "")
        return json.loads(found.stdout)

    def start(
        self, *args: str, before: Sequence[str] = (), **changes: str | None
    ) -> AbstractContextManager[Running]:
        """Run a command beside the test."""
        return started(args, home=self.home, env=self.environment(**changes), before=before)

    @contextmanager
    def daemon(self, *, before: Sequence[str] = (), **changes: str | None) -> Iterator[Running]:
        """`run`, from its start on. Where the test has not ended it, it has to end well on SIGTERM.

        It is a fork where that comes to the same, unless `before` says otherwise.
        """
        env = self.environment(**changes)
        with started(["run"], home=self.home, env=env, before=before, as_fork=True) as running:
            running.wait_for("started")
            yield running
            if running.alive:
                assert running.stop() == 0
            assert "exception" not in str(running.log), "there is a traceback in the log"

    @property
    def walks(self) -> list[dict[str, Any]]:
        """What each walk through what changed asked first; the questions that follow leave out orders."""
        requested = [listing for listing in self.served.listings if listing["orderby"].endswith("modified")]
        return [listing for listing in requested if "exclude" not in listing]

    def polled(self, more: int = 1) -> None:
        """Wait until the shop has been asked what changed so many times more."""
        before = len(self.walks)
        wait_until(lambda: len(self.walks) >= before + more, f"{more} more walks")

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Every file of the state, what is in it, and when it was written last (ns)."""
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(self.state.parent.glob("*"))
        }


@contextmanager
def site_at(home: Path, **settings: str | None) -> Iterator[Site]:
    """Open a shop and a receiver; both are gone at the end of the block."""
    with shop_in_thread() as served, receiving() as receiver:
        yield Site(home, served, receiver, dict(settings))
