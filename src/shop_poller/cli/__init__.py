"""The command line: one module per command group. Each is imported when one of its commands is used."""
