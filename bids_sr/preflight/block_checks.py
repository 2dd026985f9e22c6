"""Whether a run has blocks enough to be split in two halves, which is how finer maps are held against one another."""

from __future__ import annotations

from bids_sr.bids import BoldRun, Notice
from bids_sr.config import Settings

NEEDED = 2  # blocks of a condition: one for each half


def check_blocks(run: BoldRun, settings: Settings) -> tuple[bool, list[Notice]]:
    """Whether any condition of a run with a sound events table can be split; and what is left out.

    Returns
    -------
    splits : False where the split-half evaluation has to be left out
    notices : the conditions with fewer than two blocks inside the run
    """
    import pandas as pd

    from bids_sr.stats.glm.blocks import MIN_SHARE, find_blocks, response_shares
    from bids_sr.stats.glm.contrasts import modelled_types
    from bids_sr.stats.glm.design import frame_times

    table = pd.read_csv(run.events, sep="\t", encoding="utf-8-sig", dtype={"trial_type": str}).dropna(
        subset=["onset", "duration", "trial_type"]
    )
    table = table[table["trial_type"].isin(modelled_types(table["trial_type"]))].astype(
        {"onset": float, "duration": float}
    )
    if table.empty:
        return False, []
    blocks = find_blocks(table)
    dummies = settings.preprocessing.dummy_scans or 0
    shares = response_shares(blocks, frame_times(run.n_volumes, run.tr)[dummies:], run.tr, "spm")
    counts = dict.fromkeys((block.condition for block in blocks), 0)
    for block, share in zip(blocks, shares, strict=True):
        counts[block.condition] += share >= MIN_SHARE
    few = [f"{name} ({count})" for name, count in counts.items() if count < NEEDED]
    if not few:
        return True, []
    what = f"fewer than two blocks inside the run: {', '.join(few)}"
    if len(few) < len(counts):
        return True, [Notice(file=str(run.events), text=f"{what}; they do not enter the split halves.")]
    text = f"{what}. The run cannot be split in halves, so what they would tell is left out of the evaluation."
    return False, [Notice(file=str(run.events), text=text)]
