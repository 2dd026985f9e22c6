"""Workflows: functions that call steps in the order of processing and compute nothing themselves.

`participant.make_graph` builds the graph of all participants, and `run.process_run` defines the
order of processing for one run. Each function takes typed results of earlier functions and returns
typed results, so that the program and `bids_sr.api` use the same functions.
"""
