"""Tables of metrics: one row per value, registry of statistics, flags and formatted numbers.

Most metrics are computed elsewhere: accuracy in `bids_sr.evaluation`, quality of images in
`bids_sr.quality`, activation in `bids_sr.glm`. Only the similarity of two images, such as PSNR, is
computed here. Units and descriptions are in ``boilerplate/statistics.json``.
"""
