"""bids-sr: subject-specific super-resolution of fMRI, with controls that tell what it added and what it invented."""

__version__ = "0.1.0"
