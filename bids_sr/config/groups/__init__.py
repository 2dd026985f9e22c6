"""Groups of settings, one per file, with all defaults and checks.

Defaults are only defined here. Values are checked when a group is created, and an invalid value
raises `UsageError`, whether it comes from the command line, a settings file or Python.
"""
