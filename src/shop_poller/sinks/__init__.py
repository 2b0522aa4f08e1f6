"""Who is told: one file a sink, imported only when it is used."""

from pydantic import SecretStr

from shop_poller.config.addresses import APPRISE, HTTP, REDIS, STREAM, SinkAddress
from shop_poller.core.signature import signing_keys
from shop_poller.ports import Sink


def make_sink(address: SinkAddress, *, notify_secret: SecretStr | None, connections: int) -> Sink:
    """The sink for an address.

    Args:
        address: where to deliver to.
        notify_secret: signs what goes over HTTP; one secret, or two with a space between.
        connections: the most deliveries at once.

    Raises:
        ValueError: Apprise is not installed, or cannot use its URL; one line, without secrets.
    """
    if address.scheme in HTTP:
        from shop_poller.sinks.http import HttpSink  # noqa: PLC0415 - a sink not used costs nothing

        keys = signing_keys(notify_secret.get_secret_value()) if notify_secret else ()
        return HttpSink(address, keys=keys)
    if address.scheme in REDIS:
        from shop_poller.sinks.redis import RedisSink  # noqa: PLC0415 - it is 10 MB

        return RedisSink(address, connections=connections)
    if address.scheme in STREAM:
        from shop_poller.sinks.redis import StreamSink  # noqa: PLC0415 - as above

        return StreamSink(address, connections=connections)
    if address.scheme == APPRISE:
        from shop_poller.sinks.apprise import AppriseSink  # noqa: PLC0415 - it is 50 MB

        return AppriseSink(address, connections=connections)
    from shop_poller.sinks.console import ConsoleSink  # noqa: PLC0415 - as above

    return ConsoleSink(address)
