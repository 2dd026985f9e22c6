"""Statistical analysis of one run: events, confounds, design, noise, maps, regions and clusters.

Tables of events and confounds are read here, also confounds of fMRIPrep, and texts for sidecars of
maps are written; the data set is not searched. Maps of several runs are combined in
`bids_sr.group.combination`, and participants are compared in `bids_sr.group`.
"""
