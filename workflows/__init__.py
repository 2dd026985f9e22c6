"""Workflows: functions that call steps in the order of processing, and compute nothing.

`participant.graph_of` builds the graph of all participants, and `run.process_run` states the order
of one run. Each function takes typed results of the functions before it and returns its own, so
that the same functions serve the program and `bids_sr.api`.
"""
