"""Authentication, by dialect. A refusal is returned as the response itself."""

from base64 import b64decode
from dataclasses import replace
from urllib.parse import parse_qs

from shop_poller.simulator.answers import NO_CACHE, Answer, Request
from shop_poller.simulator.keys import ApiKey, AppPassword
from shop_poller.simulator.site import Site

_KEY_ERROR = "woocommerce_rest_authentication_error"


def by_api_key(site: Site, request: Request) -> ApiKey | Answer:
    """Return the key in X-MCP-API-Key, as WooCommerce's MCP endpoint expects it."""
    if site.require_https and not request.secure:
        return site.refuse("insecure_transport", "HTTPS is required for MCP requests.", 403)
    header = request.headers.get("x-mcp-api-key", "")
    form = "consumer_key:consumer_secret"
    if not header:
        return site.refuse("missing_api_key", f"X-MCP-API-Key header required. Format: {form}")
    if ":" not in header:
        return site.refuse("invalid_api_key", f"X-MCP-API-Key must be in format {form}")
    key = next((key for key in site.keys if key.header == header), None)
    if key is None:
        return site.refuse("authentication_failed", "Authentication failed.")
    if not key.user_exists:
        text = "The user associated with this API key no longer exists."
        return site.refuse("mcp_user_not_found", text)
    return key


def by_password(site: Site, request: Request) -> AppPassword | Answer:
    """Return the application password in Authorization, as the MCP adapter expects it."""
    found = _application_password(site, request)
    if found is None:
        return site.refuse("rest_forbidden", "Sorry, you are not allowed to do that.")
    return found


def for_rest(site: Site, request: Request, *, writing: bool = False) -> ApiKey | AppPassword | Answer:
    """Return the key in Authorization, as the REST API expects it; application passwords work too.

    WooCommerce looks for keys only if the address contains `wp-json/wc/`. Elsewhere WordPress uses a key as
    the name of a user. Keys in the query are not accepted.
    """
    credentials = _credentials(site, request)
    if credentials is None or {"consumer_key", "consumer_secret"} <= parse_qs(request.query).keys():
        return _nobody(site)
    name, secret = credentials
    if "wp-json/wc/" not in f"{request.path}?{request.query}":
        return _user_of_rest(site, request)
    key = next((key for key in site.keys if key.consumer_key == name), None)
    if key is not None:
        return _key_of_rest(site, key, secret, writing=writing)
    is_user = name in {one.username for one in site.passwords}
    return _user_of_rest(site, request) if is_user else _nobody(site)


def _user_of_rest(site: Site, request: Request) -> AppPassword | Answer:
    found = _application_password(site, request) or _nobody(site)
    if isinstance(found, Answer):
        return replace(found, headers={**found.headers, "Vary": "Origin"})
    return found


def _key_of_rest(site: Site, key: ApiKey, secret: str, *, writing: bool) -> ApiKey | Answer:
    if key.consumer_secret != secret:
        return site.refuse(_KEY_ERROR, "Consumer secret is invalid.", Vary="Origin")
    if not key.user_exists:
        return _nobody(site)
    if not key.allows(writing=writing):
        text = f"The API key provided does not have {'write' if writing else 'read'} permissions."
        answer = site.refuse(_KEY_ERROR, text)
        return replace(answer, headers={**answer.headers, **NO_CACHE})
    return key


def _nobody(site: Site) -> Answer:
    text = "Sorry, you cannot list resources."
    return site.refuse("woocommerce_rest_cannot_view", text, Vary="Origin")


def _application_password(site: Site, request: Request) -> AppPassword | Answer | None:
    credentials = _credentials(site, request)
    if credentials is None:
        return None
    name, secret = credentials
    mine = [one for one in site.passwords if one.username == name]
    if not mine:
        text = "<strong>Error:</strong> Unknown username. Check again or try your email address."
        return site.refuse("invalid_username", text)
    found = next((one for one in mine if one.opens(secret)), None)
    if found is None:
        text = "The provided password is an invalid application password."
        return site.refuse("incorrect_password", text)
    return found


def _credentials(site: Site, request: Request) -> tuple[str, str] | None:
    """Return name and secret of Basic authentication; over plain http they are ignored."""
    if site.require_https and not request.secure:
        return None
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = b64decode(encoded).decode().partition(":")
    except ValueError:
        return None
    return (name, secret) if colon else None
