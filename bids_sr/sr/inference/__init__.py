"""Super-resolution of a series: one upsampler per series, applied volume by volume.

Networks are applied by `bids_sr.sr.networks.inference`, and prior SD maps by
`bids_sr.sr.prior_maps.add_detail`.
"""
