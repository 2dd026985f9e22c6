"""Options of ``bids-sr``, one module and class per section and one field per option.

A field contains the default, flag, help and limits of its option, and whether results depend on
it. Command line, settings file and docs/options.md are generated from the fields. Search for the
name of a field to find the code that uses the option.
"""
