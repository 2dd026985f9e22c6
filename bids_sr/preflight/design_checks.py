"""Linear model of a run before the work: whether it can be built, and whether its blocks can be split in two halves."""

from collections.abc import Mapping

from bids_sr.bids import BoldRun, Findings
from bids_sr.config import Settings

MOST_VOLUMES = 5000  # beyond, building the model takes longer than all other checks
MOST_DUMMIES = 10  # volumes that may turn out not to be in the steady state
NEEDED = 2  # blocks of a condition: one for each half


def is_estimable(
    run: BoldRun, contrasts: Mapping[str, Mapping[str, float]], settings: Settings, found: Findings
) -> bool:
    """Whether the linear model of a run with a sound events table holds, motion apart; a problem says why not.

    Parameters
    ----------
    contrasts : name → trial type → weight
    """
    if "glm" not in settings.activation.kinds or run.n_volumes > MOST_VOLUMES or run.events is None:
        return True
    from bids_sr.stats.glm.design import DesignError, build_design, contrast_vector, read_events

    try:
        events = read_events(run.events)
    except (DesignError, ValueError) as error:  # of pandas, too
        reason = f"it cannot be read as a table ({error})".replace(f"{run.events}: ", "")
        found.refuse(run.events, reason, "Store it as tab-separated text in UTF-8.")
        return False
    dummies, high_pass = settings.preprocessing.dummy_scans or 0, settings.activation.high_pass
    try:
        design = build_design(events, n_volumes=run.n_volumes, tr=run.tr, n_dummy=dummies, high_pass=high_pass)
        for name, weights in contrasts.items():
            contrast_vector(design, name, weights)
    except DesignError as error:
        fix = "Check onsets and durations, or choose others with --contrasts."
        found.refuse(run.events, f"its linear model does not hold: {error}", fix)
        return False
    return True


def can_be_split(run: BoldRun, settings: Settings, found: Findings, *, n_seeds: int = 0) -> bool:
    """Whether any condition of a run with a sound events table has blocks for two halves; the others are told."""
    dummies = settings.preprocessing.dummy_scans or 0
    if run.events is None:
        return _has_segments(run, dummies, n_seeds, found)
    from bids_sr.stats.glm.blocks import MIN_SHARE, find_blocks, response_shares
    from bids_sr.stats.glm.design import frame_times, read_events

    blocks = find_blocks(read_events(run.events))
    times = frame_times(run.n_volumes, run.tr)[dummies:]
    counts = dict.fromkeys((block.condition for block in blocks), 0)
    for block, share in zip(blocks, response_shares(blocks, times, run.tr, "spm"), strict=True):
        counts[block.condition] += share >= MIN_SHARE
    few = [f"{name} ({count})" for name, count in counts.items() if count < NEEDED]
    what = f"fewer than two blocks inside the run: {', '.join(few)}"
    if few and len(few) < len(counts):
        found.tell(run.events, f"{what}; they do not enter the split halves.")
    elif few:
        text = f"{what}. The run cannot be split in halves, so what they would tell is left out of the evaluation."
        found.tell(run.events, text)
    return not few or len(few) < len(counts)


def _has_segments(run: BoldRun, dummies: int, n_seeds: int, found: Findings) -> bool:
    """Whether a run without events is long enough for two halves of segments."""
    from bids_sr.stats.glm.seeds import segment_count

    split = segment_count(run.n_volumes - max(dummies, MOST_DUMMIES), n_seeds, run.tr) > 0
    if not split:
        text = "too short to be split in halves, so what they would tell is left out of the evaluation."
        found.tell(run.bold, text)
    return split
