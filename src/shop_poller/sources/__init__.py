"""What reads a shop: one package per kind of shop."""
