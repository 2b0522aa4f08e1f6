"""A simulated WooCommerce that speaks four dialects, for `shop-poller demo` and for tests.

Written from recorded exchanges with real shops, and held against them by a contract test. It
knows nothing of how the rest of this project reads a shop's answers, so that it cannot share our
mistakes. From the inside out: `shop` is what orders there are, `listing` what can be asked of
them; `tools`, `abilities`, `rest` and `bridge` are the dialects, two of them over `rpc` and `mcp`;
`site` is what they share, `endpoint` chooses among them, `faults` are what goes wrong on the way,
`quirks` are legal answers that differ from the usual ones, `stateless` is MCP without sessions,
`asgi` puts it on a socket, `webhooks` are what the shop says by itself, and `story` makes things
happen.
"""
