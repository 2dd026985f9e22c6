"""Inputs found and steps planned, in words: first report lines of a participant and of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.bids import BoldRun, Pair, Subject
from bids_sr.bids.findings import PrecomputedAnat, PrecomputedRun
from bids_sr.config import Settings
from bids_sr.io.atomic_files import read_json
from bids_sr.io.grids import size_text

_Facts = dict[str, object]


def subject_facts(
    settings: Settings,
    subject: Subject,
    series: Sequence[str],
    *,
    template: str,
    roi: str,
) -> _Facts:
    """The first section of a report; `series` are those of all runs."""
    sessions = sorted(
        {run.entities["session"] for run in subject.runs if "session" in run.entities}
    )
    given = subject.precomputed
    return {
        "Participant": subject.label,
        **({"Sessions": sessions} if sessions else {}),
        "Runs": [run.stem for run in subject.runs],
        "T1w image": subject.t1w[0].name
        if subject.t1w
        else "none: the region of interest is the whole brain",
        "T2* pair": sorted({_pair_words(run.pair) for run in subject.runs}),
        "High-resolution reference": sorted(
            {str(run.truth.root) for run in subject.runs if run.truth}
        )
        or "none",
        **_taken_over(given, given.files(template) if given else {}),
        "Series": list(dict.fromkeys(series)),
        "Smoothing (mm FWHM)": ", ".join(f"{width:g}" for width in settings.activation.smoothing),
        "Region of interest": roi,
        "Training recipe": settings.superres.recipe if settings.superres.learned else "none",
        "Random seed": settings.resources.random_seed,
    }


def run_facts(settings: Settings, run: BoldRun, *, timed: bool) -> _Facts:
    """The first report lines of a run; `timed` says that its slice timing is corrected."""
    short = run.calibration
    return {
        "Run": run.stem,
        **{key: text for key, text in run.sidecar.items() if key == "Description"},
        "Volumes": run.n_volumes,
        "Repetition time (s)": run.tr,
        "Matrix": " × ".join(map(str, run.shape)),
        "Voxel (mm)": size_text(run.zooms, unit=""),
        "Slice timing": "corrected" if timed else "not corrected",
        "Super-resolution factor": " × ".join(f"{f:g}" for f in run.factor),
        "Pair": _pair_words(run.pair),
        "Calibration": f"{short.bold.name}, {short.n_volumes} volumes" if short else "none",
        **_taken_over(run.precomputed, {} if run.precomputed is None else run.precomputed.files),
    }


def _pair_words(pair: Pair | None) -> str:
    """Which images a run is super-resolved with."""
    if pair is None:
        return "none: only interpolations and methods that need no pair"
    lowres = "its own k-space-truncated copy" if pair.lowres is None else pair.lowres.name
    sidecar = pair.highres.with_name(pair.highres.name.partition(".")[0] + ".json")
    described = read_json(sidecar).get("Description")
    return f"{pair.highres.name} and {lowres}" + (f" ({described})" if described else "")


def _taken_over(
    found: PrecomputedAnat | PrecomputedRun | None, files: Mapping[str, Path]
) -> _Facts:
    """Which files of another program are used."""
    if found is None:
        return {}
    return {f"Taken over from {found.origin.text}": [path.name for path in files.values()]}
