"""Training of networks: phases, update steps, validation, checkpoints and model card entries.

`trainer.train_network` is the entry. Prior SD maps, which are estimated without a network, are in
`bids_sr.sr.prior_maps`.
"""
