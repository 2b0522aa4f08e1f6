"""Logging, metrics, and the detection of clocks that jump."""
