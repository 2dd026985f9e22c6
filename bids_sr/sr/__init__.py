"""Super-resolution: declaration of methods, downsampling operators, models and their application.

`method` and `recipe` define what a method is, `methods` has one file per method, and `prior_maps`
has the algorithm of ``sbl``. Networks and their training are in `bids_sr.sr.networks`.
"""
