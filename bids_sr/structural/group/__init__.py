"""Group level of structural scans: tables, statistics, figures and the page across participants.

The group level of BOLD runs is in `bids_sr.group`.
"""
