"""Quality control flags: what each checks, and its wording when passed and when raised."""

from collections.abc import Mapping

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
    "task_not_done": _FlagKind(
        rule="CC exceeds .5 elsewhere and nowhere in the region of interest",
        passed="task performed",
        failed="task possibly not performed",
        remedy=(
            "Check task compliance (time series of the active voxels); consider excluding this"
            " run."
        ),
    ),
    "broad": _FlagKind(
        rule="activation covers an unusually large part of the brain",
        passed="extent of activation",
        failed="unusually broad activation",
        remedy=(
            "Check for task-correlated head motion (motion figure) and for involvement of other"
            " muscles."
        ),
    ),
    "artifact": _FlagKind(
        rule="the pair has an artifact",
        passed="T2* pair without artifacts",
        failed="artifacts in the T2* pair",
        remedy=(
            "Inspect the pair; acquire it again, or use a method that needs none (--sr-method"
            " sbl)."
        ),
    ),
    "roi_misplaced": _FlagKind(
        rule="the region of interest misses the nearest activation",
        passed="position of the region of interest",
        failed="region of interest possibly misplaced",
        remedy=(
            "Check the registration figures; --roi-grow adds activation that the region's border"
            " cuts off."
        ),
    ),
    "distortion": _FlagKind(
        rule="edges of boldref and T2*-weighted image lie apart",
        passed="BOLD and T2* edges aligned",
        failed="susceptibility distortion",
        remedy=(
            "Correct susceptibility distortion first; inject and ratio place detail at edges of"
            " the T2* image."
        ),
    ),
    "domain": _FlagKind(
        rule="intensities or edges of the BOLD are unlike those the model was trained on",
        passed="intensities match training data",
        failed="intensities differ from training data",
    ),
    "harm": _FlagKind(
        rule=(
            "the detail that the method adds is worse than none: explained variance or tested"
            " share below 0"
        ),
        passed="at least as good as adding no detail",
        failed="worse than adding no detail",
        remedy="Do not interpret the fine detail of {series}.",
    ),
}
