"""Plan of one run, as preflight leaves it to the workflows."""

from collections.abc import Mapping, Sequence

from bids_sr.bids import BoldRun
from bids_sr.config.seeds import Seed, seed_names, seeds_of
from bids_sr.config.spaces import FUNC, Space
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrasts, minus_others
from bids_sr.workflows.wanted import Planned, Wanted, methods_of


@frozen
class RunPlan:
    """Inputs of a run, series that are made of it, and settings that depend on both.

    Parameters
    ----------
    planned : Planned
        Settings of the call and plan of all participants.
    bold : BoldRun
        Files of the run.
    wanted : tuple[Wanted, ...]
        Series that are made besides the acquired one, in the order of computation.
    primary : str
        Series that other programs are given.
    spaces : tuple[Space, ...]
        Spaces of the results.
    slice_times : Sequence[float] | None
        Times of the slices (s); None: their timing is not corrected.
    start_time : float
        Moment of a volume for which its values hold (s after its start).
    dummy_scans : int | None
        Volumes at the start that are not steady; None: their number is estimated.
    contrasts : Contrasts
        Weights of conditions, or of seeds, by contrast.
    minus_others : Sequence[str]
        Contrasts that compare one condition with all others.
    seeds : tuple[Seed, ...]
        Seeds of a run without events; empty: its temporal components take their place.
    with_anat, calibrated : bool
        Whether there is a T1w image, and whether a method uses the calibration of the run.
    """

    planned: Planned
    bold: BoldRun
    wanted: tuple[Wanted, ...]
    primary: str
    spaces: tuple[Space, ...]
    slice_times: Sequence[float] | None
    start_time: float
    dummy_scans: int | None
    contrasts: Contrasts
    minus_others: Sequence[str]
    seeds: tuple[Seed, ...]
    with_anat: bool
    calibrated: bool

    @property
    def at_rest(self) -> bool:
        """Whether the run has no events."""
        return self.bold.events is None

    @property
    def stored(self) -> tuple[Wanted, ...]:
        """Series that are stored and mapped."""
        return tuple(one for one in self.wanted if one.stored)

    @property
    def stored_names(self) -> tuple[str, ...]:
        """Names of the series that are stored and mapped."""
        return tuple(one.name for one in self.stored)

    @property
    def methods(self) -> tuple[str, ...]:
        """Stored series that are under judgment, networks first."""
        return methods_of(self.wanted)

    @property
    def compared_names(self) -> tuple[str, ...]:
        """Series of other programs that are judged beside the methods."""
        return tuple(self.bold.compared)

    @property
    def in_func(self) -> bool:
        """Whether series are stored on the grid of the run."""
        return FUNC in self._places

    @property
    def elsewhere(self) -> bool:
        """Whether series are stored in other spaces."""
        return self._places != {FUNC}

    @property
    def _places(self) -> set[str]:
        # of a series there is nothing on surfaces
        return {space.name for space in self.spaces if not space.is_surface} or {FUNC}

    @property
    def timed(self) -> bool:
        """Whether slice timing is corrected."""
        return self.slice_times is not None

    @property
    def split(self) -> bool:
        """Whether the run has enough blocks for split halves."""
        return self.bold.bold not in self.planned.plan.unsplit

    @property
    def task_name(self) -> str:
        """Name of the task, of the sidecar or of the file."""
        return str(self.bold.sidecar.get("TaskName", self.bold.entities.get("task", "")))

    @property
    def phase_encoding(self) -> str:
        """Phase-encoding direction as in BIDS; "" if it is not known."""
        return str(self.bold.sidecar.get("PhaseEncodingDirection", ""))

    @property
    def high_pass(self) -> float:
        """Cut-off of the drift of linear models (Hz)."""
        return self.planned.settings.activation.cosine_cutoff

    @property
    def low_pass(self) -> float | None:
        """Cut-off of the filter of correlations (Hz); None: no filter."""
        return self.planned.settings.activation.correlation_cutoff

    @property
    def nuisance(self) -> list[str] | None:
        """Columns of the confounds in the linear models; None: motion and aCompCor."""
        return self.planned.plan.nuisance

    @property
    def correlation_confounds(self) -> bool:
        """Whether confounds are also regressed out of series that are correlated."""
        return self.at_rest and bool(self.planned.settings.activation.confounds)

    @property
    def has_truth(self) -> bool:
        """Whether there is a measured reference or known activation."""
        truth = self.bold.truth
        return truth is not None and (bool(truth.activations) or truth.series is not None)

    @property
    def entities(self) -> dict[str, str]:
        """Entities of stored files of the run, long names to labels."""
        left_out = ("suffix", "extension", "datatype")
        kept = {name: label for name, label in self.bold.entities.items() if name not in left_out}
        return {**kept, "datatype": "func"}

    @property
    def provenance(self) -> Mapping[str, object]:
        """What sidecars of tables say of what made them."""
        width = self.planned.settings.preprocessing.input_smoothing
        return {
            **self.planned.made_by,
            "MappedBy": "seeds" if self.at_rest else "events",
            **({"InputSmoothingFWHM": width} if width else {}),
            "ContrastWeights": {
                name: dict(weights)
                for name, weights in self.planned.plan.contrasts[self.bold.bold].items()
            },
        }


def plan_run(planned: Planned, bold: BoldRun, *, with_anat: bool) -> RunPlan:
    """Gather the plan of a run; `with_anat`: whether there is a T1w image."""
    preprocessing, activation = planned.settings.preprocessing, planned.settings.activation
    wanted = planned.wanted(bold, with_anat=with_anat)
    precomputed = bold.precomputed
    dummies = preprocessing.dummy_scans
    if dummies is None and precomputed is not None:
        dummies = precomputed.n_dummy
    timed = bold.slice_timing is not None and "slicetiming" not in preprocessing.ignore
    at_rest = bold.events is None
    seeds = (
        tuple(seeds_of(activation.seeds, with_anat=with_anat, atlas=activation.atlas))
        if at_rest
        else ()
    )
    contrasts = {
        name: dict(weights) for name, weights in planned.plan.contrasts[bold.bold].items()
    }
    if at_rest:
        # temporal components, which are mapped if no seed lies in the run
        contrasts |= {name: {name: 1.0} for name in seed_names(())[: len(seeds)]}
    calibrates = any(
        one.method is not None and one.method.calibrated
        for one in wanted
        if one.learned_from == "run"
    )
    return RunPlan(
        planned=planned,
        bold=bold,
        wanted=wanted,
        primary=planned.primary(bold),
        spaces=preprocessing.spaces if with_anat else (Space(name=FUNC),),
        slice_times=bold.slice_timing if timed else None,
        start_time=bold.start_time(preprocessing.slice_time_ref),
        dummy_scans=dummies,
        contrasts=contrasts,
        minus_others=()
        if activation.contrasts or activation.stats_model
        else minus_others(planned.plan.contrasts[bold.bold]),
        seeds=seeds,
        with_anat=with_anat,
        calibrated=bold.calibration is not None and calibrates,
    )
