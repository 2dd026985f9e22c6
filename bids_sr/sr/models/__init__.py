"""Models on disk: safetensors weights and JSON cards, their store, and checks of suitability.

Networks and prior SD maps are stored alike. Networks are trained in
`bids_sr.sr.networks.training`, and prior SD maps are estimated in `bids_sr.sr.prior_maps`.
"""
