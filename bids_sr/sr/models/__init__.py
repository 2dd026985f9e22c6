"""Models on disk: safetensors weights and JSON cards, their store, and checks of suitability.

Networks and prior SD maps are stored alike. Training is in `bids_sr.networks.training` and
`bids_sr.sr.prior_maps`; models that come with the package are in ``boilerplate/models``.
"""
