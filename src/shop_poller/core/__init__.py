"""Pure decisions: no await, no clock, no randomness, no socket, no log.

Time and random numbers are arguments, so every decision can be replayed.
"""
