"""Results of preflight: the plan of a call and its cost."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from bids_sr.config.sections.activation import Activation
from bids_sr.engine.memory import Sizes
from bids_sr.glm.contrasts import Contrasts
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.io.region_spaces import T1W, TEMPLATE, RegionSpace
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.precomputed import DerivativeFolder


@frozen
class StageCost:
    """Cost of a stage over all runs.

    `minutes` is processor time, `wall_minutes` its share of the wall-clock time (infinite if
    unknown), and `memory_gb` the peak memory (GB).
    """

    stage: str
    minutes: float
    wall_minutes: float
    memory_gb: float


@frozen
class Estimate:
    """Cost of a call; `cli.stages` adds the time of its steps.

    `minutes` is wall-clock time on idle processors of 2024, infinite if it is unknown, and
    `saved_minutes` the time that training would save if it used all processors as threads.
    `processors` is the average number of busy processors of the other steps. `memory_gb` is the
    peak of all processes, and `sizes` are the largest images, which determine the memory.
    `work_gb` and `output_gb` are disk space for intermediate files and for results. `rows` are the
    cost by stage.
    """

    minutes: float = 0.0
    saved_minutes: float = 0.0
    processors: float = 1.0
    memory_gb: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)
    work_gb: float = 0.0
    output_gb: float = 0.0
    rows: tuple[StageCost, ...] = ()


@frozen
class RegionMask:
    """Mask of a region of interest (``--roi FILE``).

    `n_voxels` is counted on the grid of the mask, and `spaces` are the space of the mask by
    participant.
    """

    n_voxels: int
    spaces: Mapping[str, RegionSpace]


PlannedTerms = Mapping[str, Mapping[Path, tuple[str, float]]]
"""Contrast and weight of each run of the terms of a contrast over runs.

The keys are the entities of the runs of a term, such as ``ses-pre``, and then BOLD files.
"""


@frozen
class Plan:
    """Plan of a call.

    `problems` are reasons why the call cannot start, and `warnings` are warnings and notes about
    unexpected processing, for the terminal and the report. `series` are computed; `series_by_run`
    are the series of a run by BOLD file, and runs that are not included have all `series`.
    `contrasts` are weights by trial type, by contrast name, by BOLD file, and `over_runs` the
    terms of contrasts over runs by name. `unsplit` are BOLD files of runs with too few blocks for
    split halves. `skipped` are the reasons by name of a skipped
    run.

    `type_order` are trial types by task in the order of ``Levels`` at the root of the data set,
    which determines names and signs of default contrasts; other types follow in alphabetical
    order. `sources` are the directories of ``--derivatives``. `nuisance` are columns of the
    confounds in the linear models. If None, motion and aCompCor are used. `region_masks` are the
    masks of regions of interest that are files, by their text. `atlas_spaces` are the space of an
    atlas file by participant; empty for an atlas that is selected by name.
    `split_subjects` are all participants of the split (`anat.split`), selected or not, and
    `training_subjects` are the training and validation participants if a network is trained that
    all participants share. `kept_networks` are weights of such networks by method that were
    trained before and are not trained again.
    `combines_all_runs` states whether runs are combined even if they disagree or were acquired
    otherwise.
    """

    subjects: tuple[Subject, ...] = ()
    problems: tuple[Notice, ...] = ()
    warnings: tuple[Notice, ...] = ()
    estimate: Estimate = field(default_factory=Estimate)
    series: tuple[str, ...] = ("acquired",)
    contrasts: Mapping[Path, Contrasts] = field(default_factory=dict)
    over_runs: Mapping[str, PlannedTerms] = field(default_factory=dict)
    series_by_run: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    unsplit: frozenset[Path] = frozenset()
    skipped: Mapping[str, tuple[Notice, ...]] = field(default_factory=dict)
    type_order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: tuple[DerivativeFolder, ...] = ()
    nuisance: list[str] | None = None
    region_masks: Mapping[str, RegionMask] = field(default_factory=dict)
    atlas_spaces: Mapping[str, RegionSpace] = field(default_factory=dict)
    split_subjects: tuple[Subject, ...] = ()
    training_subjects: tuple[Subject, ...] = ()
    kept_networks: Mapping[str, Path] = field(default_factory=dict)
    combines_all_runs: bool = False

    @property
    def runs(self) -> tuple[BoldRun, ...]:
        """Runs of all participants."""
        return tuple(run for subject in self.subjects for run in subject.runs)

    def choose_smoothing(self, activation: Activation) -> tuple[float, ...]:
        """Return the smoothing of the maps of all runs (FWHM, mm)."""
        voxels = [max(run.zooms[:2]) for run in self.runs]
        return activation.choose_smoothing(max(voxels, default=0.0))

    def find_region_space(self, roi: str, label: str) -> RegionSpace:
        """Return the space of a region of interest for a participant.

        Regions that are not files are in T1w space.
        """
        mask = self.region_masks.get(roi)
        return T1W if mask is None else mask.spaces.get(label, T1W)

    def find_atlas_space(self, label: str) -> RegionSpace:
        """Return the space of the atlas for a participant.

        Atlases that are selected by name are in template space.
        """
        return self.atlas_spaces.get(label, TEMPLATE)

    def list_series(self, run: BoldRun) -> tuple[str, ...]:
        """Return the series of a run."""
        return self.series_by_run.get(run.bold, self.series)
