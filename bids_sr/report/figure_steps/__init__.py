"""Figures of the report, one function each; see `bids_sr.report.figure_step`.

A function declares name, section, title and caption of its figures. Longer drawings are in
`bids_sr.report.figures`; figures of combined runs and of structural scans are in
`bids_sr.group.combination` and `bids_sr.structural`.
"""
