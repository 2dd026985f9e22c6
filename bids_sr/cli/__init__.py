"""Program ``bids-sr``: command line, messages, progress and exit codes.

`stages` sums the memory and time of steps for each stage, as the dry run prints them. The other
programs are in their wings: `bids_sr.cli.models.commands`, `bids_sr.cli.slurm` and
`bids_sr.cli.phantom`. Options of ``bids-sr`` are declared in `bids_sr.config.sections`; this
folder generates the command line from them.
"""
