"""Settings of one call, and the only exception for refusals.

The package imports nothing but the standard library.
"""

from bids_sr.config.groups import Resources, Selection
from bids_sr.config.paths import Paths
from bids_sr.config.settings import Settings
from bids_sr.config.superres import SuperRes
from bids_sr.config.values import UsageError, nearest_name

__all__ = ["Paths", "Resources", "Selection", "Settings", "SuperRes", "UsageError", "nearest_name"]
