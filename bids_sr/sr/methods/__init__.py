"""Methods of super-resolution, one file per method, with the name of the method.

A file defines ``METHOD``: recipes, reference and cost, as plain values.
Architectures, losses and algorithms are elsewhere, and torch and numpy are not imported, because
``bids-sr --help`` reads all files.
"""
