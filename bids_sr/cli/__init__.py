"""Program ``bids-sr``: command line, messages, progress and exit codes.

`stages` sums the memory and time of steps for each stage, as the dry run prints them. The other
programs are in their wings: `bids_sr.model_commands.cli`, `bids_sr.slurm.cli` and
`bids_sr.phantom.cli`. Options of ``bids-sr`` are declared in `bids_sr.config.sections`; this
folder generates the command line from them.
"""
