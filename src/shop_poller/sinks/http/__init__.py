"""The sink `http(s)://`."""
