"""Two T2*-weighted pairs of a participant: one to train on, the other to score."""

from __future__ import annotations

from collections.abc import Sequence

from bids_sr.bids.inputs import Header, Notice, Pair, Problem, entities_of
from bids_sr.bids.pairs import Choice, choose
from bids_sr.config import SuperRes

_FIX = (
    "Leave --pair-holdout out, or add a second pair: another session, or run-1 and run-2 of both images "
    "(a --bids-filter-file that keeps one of them hides the other)."
)


def choose_two(
    bold: Header, session: str | None, candidates: Sequence[Header], superres: SuperRes
) -> tuple[Choice, Pair | None]:
    """Choose the pair of a run that is trained on, and the one that is held out.

    Images of one session and one number of a run make a pair. Those of the run's own session come first, then the
    lowest numbers; the second is held out.

    Parameters
    ----------
    bold, session, candidates, superres : as in `bids_sr.bids.pairs.choose`

    Returns
    -------
    choice, holdout : with a problem in the choice where there are fewer than two sound pairs of one factor
    """
    if not candidates:
        return Choice(), None
    groups: dict[tuple[str | None, str], list[Header]] = {}
    for header in candidates:
        labels = entities_of(header.path)
        groups.setdefault((labels.get("session"), labels.get("run", "")), []).append(header)
    order = sorted(groups, key=lambda key: (key[0] != session, key[0] or "", int(key[1]) if key[1].isdigit() else 0))
    choices = [choose(bold, key[0], groups[key], superres) for key in order]
    sound = [(choice, choice.pair) for choice in choices if choice.pair is not None]
    if len(sound) < 2:
        why = "; ".join(dict.fromkeys(p.reason for choice in choices if choice.pair is None for p in choice.problems))
        reason = f"--pair-holdout needs two T2*-weighted pairs of the participant, and there is {len(sound) or 'none'}"
        problem = Problem(file=str(bold.path), reason=reason + (f" ({why})" if why else ""), fix=_FIX)
        return Choice(problems=(problem,)), None
    (first, pair), (second, spare) = sound[:2]
    if pair.factor != spare.factor:
        reason = f"its two T2*-weighted pairs have different factors: {_names(pair)} and {_names(spare)}"
        return Choice(problems=(Problem(file=str(bold.path), reason=reason, fix=_FIX),)), None
    told = Notice(file=str(bold.path), text=f"trained on {_names(pair)}, scored on {_names(spare)}.")
    return Choice(pair=pair, notices=(*first.notices, *second.notices, told)), spare


def _names(pair: Pair) -> str:
    return " and ".join(path.name for path in (pair.highres, pair.lowres) if path is not None)
