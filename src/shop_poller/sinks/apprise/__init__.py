"""The sinks `apprise+…://`."""
