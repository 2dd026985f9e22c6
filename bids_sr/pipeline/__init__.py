"""Steps as typed functions, the artifacts they exchange, and the graph that their calls build.

The folder contains no processing. Steps are in `bids_sr.steps` and in wings, their order is in
`bids_sr.workflows`, and `bids_sr.execution` runs the graph.
"""
