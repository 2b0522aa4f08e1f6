"""The bridge of the Celery design: `{url}/execute`. No real shop has it."""

from shop_poller.simulator import auth
from shop_poller.simulator.answers import Answer, Request, wordpress_error
from shop_poller.simulator.keys import ApiKey
from shop_poller.simulator.schema import first_complaint
from shop_poller.simulator.site import Site
from shop_poller.simulator.tools import invalid, list_orders, listing_schema, not_simulated

_ALLOW = "POST"
_ABILITY = "woocommerce/orders-list"


class Bridge:
    """Answers `{"ability": "woocommerce/orders-list", "params": {…}}` with `{"data": […]}`.

    Its errors have WordPress's form; no real one was ever recorded.

    Args:
        site: The site that it belongs to.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        if request.method != "POST":
            return self._site.no_route()
        key = auth.by_api_key(self._site, request)
        if isinstance(key, Answer):
            return key
        if not request.is_json or not isinstance(request.rpc, dict):
            return self._site.broken_json(allow=_ALLOW)
        return self._execute(request.rpc.get("ability"), request.rpc.get("params", {}), key)

    def _execute(self, ability: object, params: object, key: ApiKey) -> Answer:
        if ability != _ABILITY:
            return self._error("ability_not_found", f"Ability '{ability}' not found", 404)
        if complaint := first_complaint(params, listing_schema(self._site.shop)):
            return self._error("ability_invalid_input", invalid("input", _ABILITY, complaint), 400)
        given = params if isinstance(params, dict) else {}
        if missing := not_simulated(given):
            return self._error("not_simulated", missing, 501)
        data = list_orders(self._site.shop, given, can_view=key.can_view)
        return self._site.json(200, {"data": data}, allow=_ALLOW)

    def _error(self, code: str, text: str, status: int) -> Answer:
        return self._site.json(status, wordpress_error(code, text, status), allow=_ALLOW)
