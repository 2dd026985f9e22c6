"""Program ``bids-sr-slurm``: its options, checks, and what it prints."""
