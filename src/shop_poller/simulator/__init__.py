"""A simulated WooCommerce that speaks four dialects, for `shop-poller demo` and for tests.

It is written from recorded exchanges with real shops, and a contract test compares it with them. It shares no
code with the part that reads a shop's responses, so it cannot share its mistakes.

- `shop` has the orders, `listing` answers queries for them.
- `tools`, `abilities`, `rest` and `bridge` are the dialects, two of them over `rpc` and `mcp`.
- `site` is what the dialects share, and `endpoint` chooses among them.
- `faults` are failures on the way, `quirks` are legal responses that differ from the usual ones.
- `stateless` is MCP without sessions.
- `asgi` serves the shop, `webhooks` makes its webhooks, and `story` makes things happen.
"""
