"""The HTTP listener: metrics, health, the status page, and hints of the shop."""
