"""A simulated WooCommerce that speaks MCP, for `shop-poller demo` and for tests.

Written from recorded exchanges with a real shop, and held against them by a contract test. It
knows nothing of how the rest of this project reads a shop's answers, so that it cannot share our
mistakes. From the inside out: `shop` is what orders there are, `listing` and `tools` are what can
be asked of them, `rpc` and `endpoint` are how, `faults` are what goes wrong on the way, `asgi`
puts it on a socket, and `story` makes things happen.
"""
