"""Series of other programs (``--compare``): denoised or super-resolved elsewhere.

They are resampled to the high-resolution grid of their run, mapped like all series, and receive a
verdict of their own. The order of steps is in `bids_sr.workflows.compared_series`.
"""

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.evaluation.compared_series.checks import (
        add_compared_series as add_compared_series,
    )
    from bids_sr.evaluation.compared_series.steps import (
        import_compared as import_compared,
        match_resolution as match_resolution,
    )
    from bids_sr.evaluation.compared_series.verdict import (
        COMPARED as COMPARED,
        decide_compared_verdict as decide_compared_verdict,
    )
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "checks": ["add_compared_series"],
            "steps": ["import_compared", "match_resolution"],
            "verdict": ["COMPARED", "decide_compared_verdict"],
        },
    )
