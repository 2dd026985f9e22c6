"""Settings of one call, and the only exception for refusals.

The package imports nothing but the standard library.
"""

from bids_sr.config.groups import Resources, Selection
from bids_sr.config.section import UsageError, nearest_name
from bids_sr.config.settings import Paths, Settings, SuperRes

__all__ = ["Paths", "Resources", "Selection", "Settings", "SuperRes", "UsageError", "nearest_name"]
