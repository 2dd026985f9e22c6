"""Quality control flags: what each checks, and its wording when passed and when raised."""

from __future__ import annotations

from collections.abc import Mapping

from bids_sr.boilerplate import data_of
from bids_sr.frozen import frozen


@frozen
class _FlagKind:
    """One kind of flag; the metric ``flag_NAME`` is 1 where it is raised."""

    rule: str  # what is looked for, for the table
    # passed, failed: in few words
    passed: str
    failed: str
    remedy: str = ""  # what to do where it is raised


FLAGS: Mapping[str, _FlagKind] = {
    name: _FlagKind(**told) for name, told in data_of("flags.json").items()
}
