"""Python interface by the conventions of scikit-learn and nilearn; see docs/api.md.

The classes are imported from `bids_sr` itself, which imports them when they are first requested.
"""
