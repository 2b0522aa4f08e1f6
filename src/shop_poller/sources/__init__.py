"""What reads a shop: one file a dialect, over plain HTTP or one JSON-RPC session."""
