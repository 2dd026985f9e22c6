"""Texts of the quality control flags: condition, wording and advice.

The conditions are checked in `bids_sr.evaluation.qc_flags`.
"""

from __future__ import annotations

from collections.abc import Mapping

from bids_sr.boilerplate import data_of
from bids_sr.io.frozen import frozen


@frozen
class _FlagKind:
    """Kind of flag; the metric ``flag_NAME`` is 1 if the flag is raised.

    `rule` describes the condition, for the table. `passed` and `failed` are short wordings of the
    result of the check, and `remedy` is advice if the flag is raised.
    """

    rule: str
    passed: str
    failed: str
    remedy: str = ""


FLAGS: Mapping[str, _FlagKind] = {
    name: _FlagKind(**texts) for name, texts in data_of("flags.json").items()
}
