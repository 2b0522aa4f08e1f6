"""Settings, the shops file, and the addresses that settings name."""
