"""Builds, runs and stops the daemon for one shop or many, and reports its health."""
