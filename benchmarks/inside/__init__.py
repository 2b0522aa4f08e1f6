"""What runs in the Python of the contender that is measured; each prints one line of JSON."""
