"""Sources: read orders from a shop. There is one package per kind of shop."""
