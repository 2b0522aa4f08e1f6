"""The sinks `redis://` and `redis+stream://`."""
