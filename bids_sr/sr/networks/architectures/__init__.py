"""Architectures of networks and critics, as torch modules.

Recipes name them by module and class, ``network("srresnet.SRResNet")``, and choose their sizes;
see `bids_sr.sr.methods`. In all of them, `channels` is the number of contrasts.
"""
