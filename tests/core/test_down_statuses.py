"""By which statuses a peer is down."""

from shop_poller.core.errors import DOWN_STATUSES


def test_a_gateway_and_a_maintenance_page_say_that_a_peer_is_down() -> None:
    assert {502, 503, 504} <= DOWN_STATUSES


def test_a_status_of_the_peer_itself_does_not() -> None:
    assert not DOWN_STATUSES & {200, 301, 400, 401, 404, 410, 429, 500, 501, 505}
    assert all(500 < status < 600 for status in DOWN_STATUSES)
