"""Webhooks against the real daemon."""

import json
import time

from shop_poller.web.hooks import PATH
from support.commands import wait_until
from support.hooks import SECRET, headers
from support.site import SHOP_ID, Site

BODY = json.dumps({"id": 1, "billing": {"first_name": "Забава"}}).encode()
WITHIN_S = 20.0
"""A third of the time to the next tick, for what takes about a second."""


def test_a_webhook_makes_it_deliver_long_before_the_next_tick(site: Site) -> None:
    # Without the sweep, which begins after the first tick and may find the order before the webhook comes.
    settings = {"SHOP_POLLING_INTERVAL": "60", "SHOP_SWEEP_INTERVAL": "0", "SHOP_WEBHOOK_SECRET": SECRET}
    with site.daemon(**settings) as daemon:
        wait_until(lambda: daemon.get("/readyz").status_code == 200, "the first tick")
        order = site.shop.create_order("processing")
        walks = len(site.walks)
        forged = daemon.post(PATH, BODY, headers(BODY, secret="another secret"))
        assert forged.status_code == 401
        began = time.monotonic()
        assert daemon.post(PATH, BODY, headers(BODY)).status_code == 200
        site.receiver.wait_for(1)
        assert time.monotonic() - began < WITHIN_S
        assert site.receiver.story(order) == ["new"]
        assert len(site.walks) == walks + 1
        assert daemon.metric("shop_hints_total", outcome="accepted") == 1
        assert daemon.metric("shop_hints_total", outcome="refused") == 1
        assert daemon.post(f"{PATH}/{SHOP_ID}", BODY, headers(BODY)).status_code == 200
        assert daemon.post(f"{PATH}/tea", BODY, headers(BODY)).status_code == 401
        assert daemon.stop() == 0
        assert SECRET not in daemon.stderr
        assert "Забава" not in daemon.stderr


def test_without_a_secret_there_is_nothing_to_send_webhooks_to(site: Site) -> None:
    with site.daemon() as daemon:
        assert daemon.post(PATH, BODY, headers(BODY)).status_code == 404


def test_a_secret_without_a_listener_is_a_line_and_no_daemon(site: Site) -> None:
    done = site.run("run", SHOP_WEBHOOK_SECRET=SECRET, SHOP_HTTP_LISTEN="")

    assert done.code == 2
    (line,) = [line for line in done.complaints if "SHOP_WEBHOOK_SECRET" in line]
    assert "needs the listener, which an empty SHOP_HTTP_LISTEN turns off" in line
    assert SECRET not in done.stderr
