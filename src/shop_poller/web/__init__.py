"""The HTTP listener: metrics, health, the status page, and the shop's webhooks."""
