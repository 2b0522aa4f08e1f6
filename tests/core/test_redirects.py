"""Where redirects lead, what they are for, and what of them may be shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.sources.woocommerce.redirects import MAX_SHOWN, Reason, leads_back, read_redirect

URL = "https://shop.example/wp-json/wc/v3/orders?per_page=100&orderby=modified"
S = "https://shop.example"
HTTP = "http://shop.example/wp-json/wc/v3/orders"
HERE = "https://shop.example/wp-json/wc/v3/orders"
PLAIN = "https://shop.example/?rest_route=/wc/v3/orders&via=wp-json/wc/&per_page=1"


@pytest.mark.parametrize(
    ("requested", "location", "reason", "to", "usable"),
    [
        (URL.replace("https", "http"), URL, Reason.HTTPS, HERE, True),
        (URL.replace("https", "http"), URL.replace(".example", ".example:8443"), Reason.HTTPS,
         HERE.replace(".example", ".example:8443"), True),
        (URL, URL.replace("//", "//www."), Reason.HOST, HERE.replace("//", "//www."), True),
        (URL.replace("//", "//www."), URL, Reason.HOST, HERE, True),
        (URL, f"{S}:8443/wp-json/wc/v3/orders", Reason.HOST, f"{S}:8443/wp-json/wc/v3/orders", True),
        (URL.replace("https://", "http://www."), URL, Reason.HOST, HERE, True),
        (URL, "//new.example/wp-json/wc/v3/orders?per_page=1", Reason.HOST,
         "https://new.example/wp-json/wc/v3/orders", True),
        (URL, f"{HERE}/?per_page=100", Reason.SLASH, f"{HERE}/", True),
        (URL.replace("orders", "orders/"), HERE, Reason.SLASH, HERE, True),
        (URL, "/wp-json/wc/v3/orders/", Reason.SLASH, f"{HERE}/", True),
        (URL, "/en/wp-json/wc/v3/orders?per_page=1", Reason.LANGUAGE,
         f"{S}/en/wp-json/wc/v3/orders", True),
        (URL, "/pt-br/wp-json/wc/v3/orders", Reason.LANGUAGE,
         f"{S}/pt-br/wp-json/wc/v3/orders", True),
        (URL, "/api/wc/v3/orders?token=hunter2", Reason.PATH, f"{S}/api/wc/v3/orders", True),
        (PLAIN, HERE, Reason.PATH, HERE, True),
        (PLAIN, PLAIN.replace("https://", "https://www."), Reason.HOST,
         "https://www.shop.example/?rest_route=/wc/v3/orders", True),
        (PLAIN, "/blog/?rest_route=/wc/v3/orders&x=hunter2", Reason.PATH,
         f"{S}/blog/?rest_route=/wc/v3/orders", True),
        (URL, URL, Reason.SAME, HERE, False),
        (URL, "?per_page=100&orderby=modified", Reason.SAME, HERE, False),
        (URL, f"{URL}&check=hunter2#top", Reason.SAME, HERE, False),
        (URL, f"{S}:443/wp-json/wc/v3/orders", Reason.SAME, f"{S}:443/wp-json/wc/v3/orders", False),
        (URL, URL.replace("https", "http"), Reason.HTTP, HTTP, False),
        (URL, URL.replace("https://", "http://www."), Reason.HTTP, HTTP.replace("//", "//www."), False),
        (URL, f"http{S[5:]}/wc/v3/orders", Reason.PATH, f"http{S[5:]}/wc/v3/orders", False),
        (URL, "/wp-login.php?redirect_to=hunter2", Reason.LOGIN, f"{S}/wp-login.php", False),
        (URL, "https://sso.example/login", Reason.LOGIN, "https://sso.example/login", False),
        (URL, "/my-account/", Reason.LOGIN, f"{S}/my-account/", False),
        (URL, "/coming-soon/", Reason.WAITING, f"{S}/coming-soon/", False),
        (URL, "/maintenance.html", Reason.WAITING, f"{S}/maintenance.html", False),
        (URL, "/page-under-construction", Reason.WAITING, f"{S}/page-under-construction", False),
        (URL, "/", Reason.PAGE, f"{S}/", False),
        (URL, "/shop/", Reason.PAGE, f"{S}/shop/", False),
        (URL, "https://us:hunter2@n.example/?k=hunter2#hunter2", Reason.PAGE, "https://n.example/", False),
        (URL, "/страница ы", Reason.PAGE,
         f"{S}/%D1%81%D1%82%D1%80%D0%B0%D0%BD%D0%B8%D1%86%D0%B0%D1%8B", False),
        (URL, "", Reason.NOWHERE, "", False),
        (URL, "mailto:shop@shop.example", Reason.NOWHERE, "", False),
        (URL, "javascript:alert(1)", Reason.NOWHERE, "", False),
        (URL, "https://[::1", Reason.NOWHERE, "", False),
        (URL, "https://new.example:99999/", Reason.NOWHERE, "", False),
    ],
)  # fmt: skip
def test_a_redirect_says_what_it_is_for_and_where_it_leads(
    requested: str, location: str, reason: Reason, to: str, usable: bool  # noqa: FBT001 - a table
) -> None:  # fmt: skip
    found = read_redirect(requested, location)
    assert (found.reason, found.to, found.is_usable) == (reason, to, usable)


def test_what_is_shown_is_bounded_and_then_no_setting() -> None:
    found = read_redirect(URL, f"https://new.example/{'x' * 100_000}/wp-json/wc/v3/orders")
    assert len(found.to) == MAX_SHOWN + 1
    assert not found.is_usable


@given(
    st.text(max_size=60) | st.from_regex(r"(https?:)?//[^/]{1,20}/.{0,20}"),
    st.sampled_from([URL, PLAIN]),
)
def test_whatever_a_shop_says_can_be_shown(location: str, requested: str) -> None:
    found = read_redirect(requested, location)
    assert found.to.isprintable()
    assert " " not in found.to
    assert found.to == "" or found.to.startswith(("http://", "https://"))
    leads_back(requested, location)


def test_only_the_very_address_leads_back() -> None:
    assert leads_back(URL, URL)
    assert leads_back(URL, "/wp-json/wc/v3/orders?per_page=100&orderby=modified#x")
    for other in (HERE, "/", f"{URL}&a=b", URL.replace("shop.", "www.shop."), "https://[::1"):
        assert not leads_back(URL, other)
