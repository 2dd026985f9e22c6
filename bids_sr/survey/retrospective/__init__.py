"""Downsampled copies of a data set for ``--retrospective``.

Which runs are copied, and their checks, are in `bids_sr.survey.bids.retrospective_plan`. The
copies are made before the graph, not by steps, and are then processed like any data set, with the
original volumes as high-resolution reference. The self-test, which downsamples within a run, is in
`bids_sr.sr.prior_maps.self_testing`.
"""
