"""What reads a shop: one file a dialect, over one JSON-RPC session."""
