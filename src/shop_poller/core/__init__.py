"""What is decided, and nothing else: no await, no clock, no chance, no socket, no log.

Time and chance come in as arguments, so that every decision can be replayed.
"""
