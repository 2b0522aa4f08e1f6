"""From a tick to a commit: fetch pages of changed orders, decide, and write the state."""
