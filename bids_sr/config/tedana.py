"""Availability of tedana, an optional dependency that combines the echoes of multi-echo runs."""

import importlib.util

INSTALL_TEDANA = 'Install tedana with `pip install "tedana>=26.0" six`'
"""Remedy for messages that tedana is missing, without the final period."""


def is_tedana_installed() -> bool:
    """Return whether tedana can be imported, without importing it."""
    return importlib.util.find_spec("tedana") is not None
