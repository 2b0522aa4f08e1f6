"""The old design, as its description has it: poll_orders by beat, send_notification a task each.

What the description leaves open is filled in its own manner: `NotificationPublisher` is made like
`MCPClient`, a client a call. BENCH_KEPT=1 is its best variant: clients are kept as long as the process.
"""
