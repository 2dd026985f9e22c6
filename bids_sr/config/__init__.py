"""Settings of a call: options, presets, storage levels, resources of the machine, and locks.

Options of ``bids-sr`` are the fields of the classes in `sections`. The other modules read, check
and store values; options of other programs are declared beside these programs. Of the rooms
below, only modules without other libraries are imported, so that ``--help`` is quick.
"""

from bids_sr.config.sections.paths import Paths
from bids_sr.config.sections.resources import Resources
from bids_sr.config.sections.selection import Selection
from bids_sr.config.sections.superres import SuperRes
from bids_sr.config.settings import Settings
from bids_sr.config.values import suggest_name

__all__ = ["Paths", "Resources", "Selection", "Settings", "SuperRes", "suggest_name"]
