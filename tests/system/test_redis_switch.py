"""A planned switch of Redis' primary behind one address, under a running daemon: state and sink."""

import time
from pathlib import Path

from support.commands import wait_until
from support.replicated import replicated
from support.site import Site

WITHIN_S = 20.0
"""On a busy machine; without a new connection it would be never, and by the breaker's minute too late."""


def test_state_and_sink_go_on_within_seconds_once_the_address_leads_to_the_new_primary(
    site: Site, tmp_path: Path
) -> None:
    with replicated(tmp_path / "servers") as pair:
        site.settings["SHOP_STATE_URL"] = f"redis://{pair.place}"
        site.settings["SHOP_NOTIFY_URLS"] = f"redis+stream://{pair.place}?stream=shop:events#r"

        def entries(count: int) -> bool:
            server = pair.old if pair.address.target == pair.old.port else pair.new
            with server.client as client:
                return bool(client.xlen("shop:events") == count)

        with site.daemon() as daemon:
            site.shop.create_order("processing")
            wait_until(lambda: entries(1), "the first order")
            pair.demote()
            site.shop.create_order("processing")
            # While the old primary loads what the new one has, it looks emptied: then the lease is given up.
            wait_until(
                lambda: any(
                    daemon.logged(f"the lease cannot be {done}; retrying")
                    for done in ("renewed", "requested")
                ),
                "the daemon to meet a replica",
            )
            pair.lead_on()
            begun = time.monotonic()
            wait_until(lambda: entries(2), "the second order", within_s=WITHIN_S)
            site.shop.create_order("processing")
            wait_until(lambda: entries(3), "the third order", within_s=WITHIN_S)
            assert time.monotonic() - begun < WITHIN_S
            assert site.status()["known_orders"] == 3
        with pair.new.client as client:
            assert len({entry["event_id"] for _, entry in client.xrange("shop:events")}) == 3


def test_a_sink_alone_goes_on_within_seconds(site: Site, tmp_path: Path) -> None:
    with replicated(tmp_path / "servers") as pair:
        site.settings["SHOP_NOTIFY_URLS"] = f"redis+stream://{pair.place}?stream=shop:events#r"
        with site.daemon() as daemon:
            site.shop.create_order("processing")
            wait_until(lambda: daemon.logged("delivered"), "the first order")
            pair.demote()
            site.shop.create_order("processing")
            daemon.wait_for("circuit open after failures; probing periodically")
            pair.lead_on()
            begun = time.monotonic()
            with pair.new.client as client:
                wait_until(lambda: client.xlen("shop:events") == 2, "the second order", within_s=WITHIN_S)
            assert time.monotonic() - begun < WITHIN_S
