"""Delivers from the outbox to a sink: dispatches, sends, and records the outcomes."""
