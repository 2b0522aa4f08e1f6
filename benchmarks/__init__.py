"""What shop-poller costs, beside the Celery design that it replaces: `make bench`, docs/benchmarks.md."""
