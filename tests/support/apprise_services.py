"""Loads the services of Apprise, whose modules import some that Python itself says are old."""

import importlib
import warnings


def load_services() -> None:
    """Load all services now: later, in a test, the warnings would fail it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("apprise").Apprise.instantiate("json://loaded")
