"""From the outbox to a sink: dispatch, send, and record the outcomes."""
