"""The step of `setup` about the shop: its address and keys, which are tried at once."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import anyio
from pydantic import ValidationError

from shop_poller.cli.check_shop import ask_shop
from shop_poller.cli.setup_answers import (
    api_addresses,
    callback_address,
    consumer_key,
    consumer_secret,
    shop_address,
    site_of,
)
from shop_poller.cli.setup_dialogue import Dialogue
from shop_poller.cli.setup_key_link import ConsumerKeys, KeyLink
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.messages import CAUSES
from shop_poller.core.translatable import Text
from shop_poller.http.client import HttpClient, transport_errors
from shop_poller.sinks.registry import parse_sink
from shop_poller.sources.woocommerce.answers import RedirectedError
from shop_poller.sources.woocommerce.redirects import Reason, read_redirect

T = TypeVar("T")
ADDRESS, KEY, SECRET = "woocommerce_mcp_url", "woocommerce_consumer_key", "woocommerce_consumer_secret"
ALSO = ("shop_allow_insecure", "shop_dialect", "wordpress_username", "wordpress_application_password")
"""Other settings that decide how the shop is asked."""
NEW_KEY = "/wp-admin/admin.php?page=wc-settings&tab=advanced&section=keys&create-key=1"
SITE_TIMEOUT_S = 10.0
LINK_WITHIN_S = 600.0
WRONG_PLACE = frozenset({ErrorKind.NOT_FOUND, ErrorKind.PROTOCOL, ErrorKind.REJECTED})
"""Kinds of error that mean that the API may be at another address of the same site."""


class ShopStep:
    """Asks for the shop until its orders can be read.

    Args:
        dialogue: asks.
        present: the settings of `.env`, which the owner may keep.
        listen: host and port of our listener, for keys that the shop sends.
    """

    def __init__(self, dialogue: Dialogue, present: Mapping[str, str], listen: tuple[str, int]) -> None:
        self._dialogue = dialogue
        self._present = present
        self._listen = listen

    def run(self) -> dict[str, str]:
        """Return address, key and secret by the names of the settings."""
        ask = self._dialogue
        ask.section("step_shop")
        address = self._ask_address()
        keys = self._ask_keys(address)
        while True:
            ask.say("shop_trying")
            found = anyio.run(self._find, address, keys)
            if not isinstance(found, ShopPollerError):
                working, dialect = found
                ask.say("shop_ok", dialect=dialect)
                return {ADDRESS: working, KEY: keys.consumer_key, SECRET: keys.consumer_secret}
            if found.kind is ErrorKind.AUTHENTICATION:
                ask.say("shop_keys", detail=found.text)
                keys = self._ask_keys(address, is_first=False)
            else:
                ask.say("shop_failed", cause=CAUSES[ask.locale][found.kind], detail=found.text)
                address = self._ask_address()

    def _ask_address(self) -> str:
        ask = self._dialogue
        if ADDRESS in self._present:
            ask.say("kept")
        while True:
            address = ask.ask("ask_address", self._or_kept(ADDRESS, shop_address))
            ask.say("site_trying")
            try:
                moved = anyio.run(_moved, address)
            except ShopPollerError as error:
                ask.say("site_failed", cause=CAUSES[ask.locale][error.kind], detail=error.text)
                continue
            if moved and ask.agrees("address_moved", to=moved):
                address = moved
            ask.say("site_ok")
            return address

    def _ask_keys(self, address: str, *, is_first: bool = True) -> ConsumerKeys:
        ask = self._dialogue
        site = site_of(address)
        may_keep = is_first and KEY in self._present and SECRET in self._present
        if not may_keep:
            ask.say("keys_how")
            if is_first and ask.agrees("ask_public", default=False):
                keys = self._receive_keys(site)
                if keys is not None:
                    return keys
            ask.say("keys_page", link=site + NEW_KEY)
            ask.say("keys_both")
        ask.say("hidden")
        if may_keep:
            ask.say("kept")
        key = self._hidden("ask_key", self._or_kept(KEY, consumer_key) if may_keep else consumer_key)
        secret = self._hidden(
            "ask_secret", self._or_kept(SECRET, consumer_secret) if may_keep else consumer_secret
        )
        return ConsumerKeys(key, secret)

    def _hidden(self, question: str, check: Callable[[str], str]) -> str:
        value = self._dialogue.ask(question, check, hidden=True)
        self._dialogue.say("received", length=len(value))
        return value

    def _or_kept(self, name: str, check: Callable[[str], str]) -> Callable[[str], str]:
        """Return a check that takes a blank answer for the present value."""
        kept = self._present.get(name, "")
        return lambda text: check(text if text.strip() else kept)

    def _receive_keys(self, site: str) -> ConsumerKeys | None:
        """Let the shop send its keys; None if they do not arrive."""
        ask, (host, port) = self._dialogue, self._listen
        ours = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        base = ask.ask("ask_callback", callback_address, listen=ours)
        link = KeyLink(base, thanks=ask.text("link_page"))
        ask.say("link_open")
        ask.say("literal", text=link.url(site))
        try:
            with ask.progress("link_wait", minutes=round(LINK_WITHIN_S / 60)) as show:
                keys = anyio.run(
                    partial(link.receive, host, port, within_s=LINK_WITHIN_S, show_progress=show)
                )
        except OSError as error:
            ask.say("link_listen", listen=ours, detail=error)
            return None
        ask.say("link_ok" if keys else "link_late", base=base, listen=ours)
        return keys

    async def _find(self, address: str, keys: ConsumerKeys) -> tuple[str, str] | ShopPollerError:
        """Return the address that works and its dialect, or the error that says the most."""
        first: ShopPollerError | None = None
        for tried in api_addresses(address):
            try:
                answer = await ask_shop(self._settings(tried, keys))
            except ShopPollerError as error:
                if isinstance(error, RedirectedError) or error.kind not in WRONG_PLACE:
                    return error
                first = first or error
            else:
                return tried, str(answer.dialect)
        assert first is not None  # noqa: S101 - there is an address
        return first

    def _settings(self, address: str, keys: ConsumerKeys) -> Settings:
        values = {ADDRESS: address, KEY: keys.consumer_key, SECRET: keys.consumer_secret}
        also = {name: self._present[name] for name in ALSO if self._present.get(name, "").strip()}
        try:
            return Settings.of({**also, **values}, parse_sink=parse_sink)
        except ValidationError:  # the last step reports what else is wrong in the file
            return Settings.of(values, parse_sink=parse_sink)


async def _moved(address: str) -> str:
    """Ask for the shop's first page; return the address to which the site has moved, or "".

    Raises:
        ShopPollerError: the site does not answer.
    """
    client = HttpClient(address, timeout_s=SITE_TIMEOUT_S)
    try:
        with transport_errors(Text("the site")), anyio.fail_after(SITE_TIMEOUT_S):
            async with client.stream("GET") as response:
                location = response.headers.get("location", "")
                is_redirect = response.status_code in {301, 302, 307, 308}
    finally:
        await client.aclose()
    redirect = read_redirect(address, location)
    may_move = is_redirect and redirect.is_usable and redirect.reason is Reason.HOST
    return site_of(redirect.to) if may_move else ""
