"""Processing plan of a BOLD run."""

from collections.abc import Mapping, Sequence

from bids_sr.bids import BoldRun
from bids_sr.config.seeds import Seed, choose_seeds, seed_names
from bids_sr.config.spaces import FUNC, Space
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrasts, minus_others
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.model_confounds import COMPCOR_VOLUMES
from bids_sr.preflight.run_model import design_settings
from bids_sr.workflows.series_requests import Analysis, SeriesRequest, list_methods


@frozen
class RunPlan:
    """Inputs of a run, requested series, and settings that depend on both.

    `requested_series` are all series except the acquired series, in the order of computation, and
    `primary` is the name of the exported series. `spaces` are of the results. `slice_times` are in
    s; if None, slice timing is not corrected. `dummy_scans` is the number of non-steady-state
    volumes at the start; if None, the number is estimated.

    `contrasts` are weights of conditions, or of seeds, by contrast. `minus_others` are contrasts
    that compare one condition with all others. `seeds` are for a run without events. If empty,
    temporal components of the run are used instead. `with_anat` states whether a T1w image exists,
    and `uses_calibration` whether a method uses the calibration run.
    """

    analysis: Analysis
    bold: BoldRun
    requested_series: tuple[SeriesRequest, ...]
    primary: str
    spaces: tuple[Space, ...]
    slice_times: Sequence[float] | None
    design: DesignSettings
    dummy_scans: int | None
    contrasts: Contrasts
    minus_others: Sequence[str]
    seeds: tuple[Seed, ...]
    with_anat: bool
    uses_calibration: bool

    @property
    def at_rest(self) -> bool:
        """Whether the run has no events."""
        return self.bold.events is None

    @property
    def stored_series(self) -> tuple[SeriesRequest, ...]:
        """Series that are stored and mapped."""
        return tuple(request for request in self.requested_series if request.is_stored)

    @property
    def stored_names(self) -> tuple[str, ...]:
        """Names of the series that are stored and mapped."""
        return tuple(request.name for request in self.stored_series)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of stored series whose methods are evaluated, networks first."""
        return list_methods(self.requested_series)

    @property
    def compared_names(self) -> tuple[str, ...]:
        """Names of series of other programs, which are evaluated like the methods."""
        return tuple(self.bold.compared)

    @property
    def in_func(self) -> bool:
        """Whether series are stored on the grid of the run."""
        return FUNC in self._series_spaces

    @property
    def in_other_spaces(self) -> bool:
        """Whether series are stored in other spaces."""
        return self._series_spaces != {FUNC}

    @property
    def _series_spaces(self) -> set[str]:
        # surfaces only get maps, never series
        return {space.name for space in self.spaces if not space.is_surface} or {FUNC}

    @property
    def corrects_slice_timing(self) -> bool:
        """Whether slice timing is corrected."""
        return self.slice_times is not None

    @property
    def start_time(self) -> float:
        """Reference time of the volumes (s after the start of a volume)."""
        return self.bold.start_time(self.analysis.settings.preprocessing.slice_time_ref)

    @property
    def can_split(self) -> bool:
        """Whether the run has enough task blocks to be split into halves."""
        return self.bold.bold not in self.analysis.plan.unsplit

    @property
    def task_name(self) -> str:
        """Name of the task from the sidecar, or from the file name if the sidecar has none."""
        return str(self.bold.sidecar.get("TaskName", self.bold.entities.get("task", "")))

    @property
    def phase_encoding(self) -> str:
        """Phase-encoding direction as in BIDS; "" if unknown."""
        return str(self.bold.sidecar.get("PhaseEncodingDirection", ""))

    @property
    def nuisance(self) -> list[str] | None:
        """Columns of the confounds in the linear models; None: motion and aCompCor."""
        return self.analysis.plan.nuisance

    @property
    def has_components(self) -> bool:
        """Whether the default model has aCompCor components, as far as known before the run."""
        precomputed = self.bold.precomputed
        is_imported = precomputed is not None and precomputed.confounds is not None
        return (self.with_anat or is_imported) and self.bold.n_volumes >= COMPCOR_VOLUMES

    @property
    def has_truth(self) -> bool:
        """Whether a measured high-resolution reference or known activation exists."""
        truth = self.bold.truth
        return truth is not None and (bool(truth.activations) or truth.series is not None)

    @property
    def entities(self) -> dict[str, str]:
        """Entities of stored files of the run: labels by long entity name."""
        omitted_entities = ("suffix", "extension", "datatype")
        labels = {
            name: label
            for name, label in self.bold.entities.items()
            if name not in omitted_entities
        }
        return {**labels, "datatype": "func"}

    @property
    def provenance(self) -> Mapping[str, object]:
        """Provenance metadata for sidecars of tables."""
        width = self.analysis.settings.preprocessing.input_smoothing
        return {
            **self.analysis.provenance,
            "MappedBy": "seeds" if self.at_rest else "events",
            **({"InputSmoothingFWHM": width} if width else {}),
            "ContrastWeights": {
                name: dict(weights)
                for name, weights in self.analysis.plan.contrasts[self.bold.bold].items()
            },
        }


def plan_run(analysis: Analysis, bold: BoldRun, *, with_anat: bool) -> RunPlan:
    """Gather the plan of a run.

    `with_anat`: whether the participant has a T1w image.
    """
    preprocessing, activation = analysis.settings.preprocessing, analysis.settings.activation
    requests = analysis.requested_series(bold, with_anat=with_anat)
    precomputed = bold.precomputed
    dummy_scans = preprocessing.dummy_scans
    if dummy_scans is None and precomputed is not None:
        dummy_scans = precomputed.n_dummy
    has_slice_timing = bold.slice_timing is not None and "slicetiming" not in preprocessing.ignore
    at_rest = bold.events is None
    seeds = (
        tuple(choose_seeds(activation.seeds, with_anat=with_anat, atlas=activation.atlas))
        if at_rest
        else ()
    )
    contrasts = {
        name: dict(weights) for name, weights in analysis.plan.contrasts[bold.bold].items()
    }
    if at_rest:
        # temporal components replace the seeds if no seed is inside the field of view
        contrasts |= {name: {name: 1.0} for name in seed_names(())[: len(seeds)]}
    method_uses_calibration = any(
        request.method is not None and request.method.uses_calibration
        for request in requests
        if request.learned_from == "run"
    )
    return RunPlan(
        analysis=analysis,
        bold=bold,
        requested_series=requests,
        primary=analysis.primary(bold),
        spaces=preprocessing.spaces if with_anat else (Space(name=FUNC),),
        slice_times=bold.slice_timing if has_slice_timing else None,
        design=design_settings(bold, analysis.settings),
        dummy_scans=dummy_scans,
        contrasts=contrasts,
        minus_others=()
        if activation.contrasts or activation.model
        else minus_others(analysis.plan.contrasts[bold.bold]),
        seeds=seeds,
        with_anat=with_anat,
        uses_calibration=bold.calibration is not None and method_uses_calibration,
    )
