"""Wording of verdicts on series of other programs."""

from collections.abc import Mapping

from bids_sr.evaluation.advice import Advice
from bids_sr.evaluation.evidence import AccuracyKind, Claim, Decision, Reason, VerdictStatus
from bids_sr.evaluation.words import capitalize, region_text, value_text
from bids_sr.metrics.rows import MetricRow
from bids_sr.series import same_name

_HEADS: Mapping[VerdictStatus, str] = {
    "more accurate": "is more accurate than the acquired series",
    "not more accurate": "was not found to be more accurate than the acquired series",
    "less accurate": "is less accurate than the acquired series",
    "mixed": (
        "is more accurate than the acquired series in one frequency band and less accurate in the"
        " other"
    ),
}


def write_compared_headline(name: str, status: VerdictStatus) -> str:
    """Return a sentence on whether another program's series is more accurate than acquired."""
    return (
        f"{name} {_HEADS[status]}."
        if status in _HEADS
        else f"The accuracy of {name} was not assessed."
    )


_BAND: Mapping[AccuracyKind, str] = {
    "within": "below the acquired Nyquist frequency",
    "beyond": "above the acquired Nyquist frequency",
}
_FOUND: Mapping[tuple[AccuracyKind, Decision], str] = {
    ("within", "better"): "the series is closer to the reference than the acquired series",
    ("within", "worse"): "the series is farther from the reference than the acquired series",
    ("within", "same"): "the series is as accurate as the acquired series",
    ("within", "unclear"): "the series does not differ detectably from the acquired series",
    ("beyond", "better"): "the series contains true detail that the acquired series lacks",
    ("beyond", "worse"): "the added detail is wrong",
    ("beyond", "same"): "the series contains no true detail",
    ("beyond", "unclear"): "no true detail was detected",
}
_WHY: Mapping[Reason, str] = {
    "smoothed": (
        "the series is not more accurate than the acquired series smoothed to the same resolution"
    ),
    "size": (
        "the series is closer to the reference only in amplitude, which is also true of a"
        " scaled-down copy of a noisy series"
    ),
    "nothing": (
        "the series is closer to the reference than the acquired series, but its explained"
        " variance does not differ from 0"
    ),
    "no control": (
        "accuracy was not assessed because the smoothness of the series, which determines the"
        " control at the same resolution, could not be estimated"
    ),
    "no detail": "the series adds no detail",
}
_NOT_COUNTED = (
    " (this gain is not counted because the measured series is from the same scan and has the same"
    " noise, which a program that processes the whole run can transfer between halves of the"
    " blocks)"
)
_ON_ACQUIRED_GRID = (
    "The series has no detail above the acquired Nyquist frequency because it is on the acquired"
    " grid."
)


def describe_compared_band(claim: Claim, fwhm_mm: float, *, counts: bool, finer: bool) -> str:
    """Describe the accuracy of another program's series in one frequency band, with values.

    Parameters
    ----------
    claim : Claim
        Decision for the band.
    fwhm_mm : float
        Smoothing of the control at the same resolution (FWHM, mm).
    counts : bool
        Whether a gain counts; if False, the text explains why it does not.
    finer : bool
        Whether the series is on a finer grid than the acquired series.
    """
    if claim.evidence is None or claim.decision is None or (claim.kind == "beyond" and not finer):
        return _ON_ACQUIRED_GRID
    where = "the brain" if claim.region == "brain" else region_text(claim.region)
    smoothed = f"the acquired series smoothed to about its resolution ({fwhm_mm:.1f} mm)"
    numbers = [f"explained variance {value_text(row, '.2f')} in {where}" for row in _level(claim)]
    for comparison in claim.comparisons:
        row = comparison.row
        over = "the acquired series" + " in the brain" * (row.region != claim.region)
        if row.minus != same_name(claim.series):
            numbers.append(f"{value_text(row, '+.2f')} over {over}")
        elif fwhm_mm > 0:
            numbers.append(f"{value_text(row, '+.2f')} over {smoothed}")
    if claim.why == "contrary":
        ahead = claim.comparisons[0].row.value > 0
        contrary = (
            "its noise or wrong detail outweighs this gain" if ahead else "it is more accurate"
        )
        finding = (
            f"the series is {'more' if ahead else 'less'} accurate in {where}, but over the whole"
            f" brain {contrary}"
        )
    else:
        finding = _WHY[claim.why] if claim.why else _FOUND[claim.kind, claim.decision]
    better = claim.kind == "within" and claim.decision == "better"
    finding += ", also at the same resolution" if better and fwhm_mm > 0 else ""
    finding += _NOT_COUNTED if claim.decision == "better" and not counts else ""
    return (
        f"{capitalize(_BAND[claim.kind])}, {finding}: {', '.join(numbers)}. The reference is"
        f" {claim.evidence.reference.words}."
    )


def _level(claim: Claim) -> list[MetricRow]:
    row = None if claim.evidence is None else claim.evidence.row(claim.series, claim.region)
    return [] if row is None else [row]


def explain_missing_band(kind: AccuracyKind, advice: Advice, *, finer: bool) -> str:
    """Explain why a band of another program's series was not assessed, and which data are needed.

    The band `kind` is ``within`` or ``beyond`` the acquired Nyquist frequency.
    """
    if kind == "beyond" and not finer:
        return _ON_ACQUIRED_GRID
    way, need = advice.fine_run, "a high-resolution reference"
    if kind == "within":
        way, need = advice.other_run, "a second run of the same task"
    return (
        f"{capitalize(_BAND[kind])}, accuracy was not assessed. This assessment requires {need}:"
        f" {way}."
    )


def describe_compared_position(facts: Mapping[str, object]) -> list[str]:
    """Return sentences on the position and coverage of another program's series."""
    sentences = []
    if facts.get("shift") and facts.get("frame") == "as acquired":
        sentences.append(f"The series is shifted by {facts['shift']} of the acquired grid.")
    if excluded := int(str(facts.get("left_out", 0))):
        total = int(str(facts["brain_voxels"]))
        sentences.append(
            f"{excluded:,} of {total:,} brain voxels ({100 * excluded / total:.2g} %) were"
            " excluded from the evaluation because they have no signal in this series or in the"
            " acquired series."
        )
    return sentences
