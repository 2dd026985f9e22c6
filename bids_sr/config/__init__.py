"""Settings of a call, and the exception for invalid settings.

The package only imports the standard library.
"""

from bids_sr.config.sections.paths import Paths
from bids_sr.config.sections.resources import Resources
from bids_sr.config.sections.selection import Selection
from bids_sr.config.sections.superres import SuperRes
from bids_sr.config.settings import Settings
from bids_sr.config.values import UsageError, suggest_name

__all__ = ["Paths", "Resources", "Selection", "Settings", "SuperRes", "UsageError", "suggest_name"]
