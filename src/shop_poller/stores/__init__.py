"""What remembers: one file a store."""
