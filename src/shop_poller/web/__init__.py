"""The HTTP listener: metrics, health, and hints of the shop."""
