"""Group level of functional runs: tables, tests, maps and page across participants.

`level` finds the outputs of the participants and writes the results. Runs of one participant are
combined in `bids_sr.group.combination`. The group level of structural scans,
`bids_sr.structural.group`, writes its results and its page with functions of this package.
"""
