"""What the design reads from its environment."""

import os

REDIS_URL = os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0")
WOOCOMMERCE_MCP_URL = os.environ.get("WOOCOMMERCE_MCP_URL", "")
CONSUMER_KEY = os.environ.get("WOOCOMMERCE_CONSUMER_KEY", "")
CONSUMER_SECRET = os.environ.get("WOOCOMMERCE_CONSUMER_SECRET", "")
NOTIFY_URL = os.environ.get("BENCH_NOTIFY_URL", "")
"""http:…, or redis:…; the design does not say what Notifications are reached by."""
KEPT = os.environ.get("BENCH_KEPT") == "1"
INTERVAL_S = float(os.environ.get("SHOP_POLLING_INTERVAL", "60"))
