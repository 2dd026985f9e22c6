"""Python interface with the conventions of scikit-learn and nilearn; see docs/api.md.

The classes are imported from `bids_sr`, which loads them when they are first used.
"""
