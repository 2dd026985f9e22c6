"""Drawings of arrays and tables with matplotlib, and the interactive map viewer.

These functions receive arrays and tables, and return figures. The figures of the report are
declared in `bids_sr.report.figure_steps`, with their place, title and caption. Pages are made in
`bids_sr.report`, which also defines the names and labels of series.
"""
