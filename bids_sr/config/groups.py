"""Settings by group: every default stands here and nowhere else, every value is checked when it is made.

A value that cannot hold is refused with a `UsageError` when the object is built, whether it came from the
command line, from a settings file or from Python.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from bids_sr import region_names
from bids_sr.config.seed_options import COMPONENTS, DEFAULT_SEEDS, known_names, parse_seed, seed_names, seeds_of
from bids_sr.config.values import UsageError, as_annotated, nearest_name
from bids_sr.series import BASELINES, DEFAULT_BASELINES, PAIR_BASELINES, series_names
from bids_sr.sr.method import REMOVED, get_method, methods_trained_on, offered_methods

PAPER_SMOOTHING_MM = (3.5, 13.2)  # sigma 1.5, read as mm or as 3.75 mm pixels, as full width at half maximum
AUTO = "auto"
AUTO_METHODS: dict[str, tuple[str, ...]] = {"bold": ("srgan", "sbl"), "anat": ("srgan",)}
"""What `auto` may stand for, by target."""
ONCE = {"reusable": False}  # marks a field that belongs to one call and is not taken from an older settings file


class Section:
    """What all groups of settings share: values are brought to their annotated types, then checked."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            self._set(name, as_annotated(getattr(self, name), hint, self._where(name)))
        self._check()

    def _where(self, name: str) -> str:
        """A setting as messages name it."""
        return f"{type(self).__name__.lower()}.{name}"

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # only while the object is being made

    def _check(self) -> None:
        """Refuse values that have the right type and still cannot hold."""

    def _need(self, holds: bool, name: str, why: str) -> None:
        if not holds:
            value = getattr(self, name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise UsageError(f"{self._where(name)}: {shown}", why, "change that value")

    def _need_positive(self, name: str, why: str) -> None:
        value = getattr(self, name)
        self._need(value is None or value > 0, name, why)

    def _each_once(self, *names: str) -> None:
        for name in names:
            self._set(name, tuple(dict.fromkeys(getattr(self, name))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths(Section):
    """Where the data are, where results go, and where the work is kept so that it can be resumed."""

    bids_dir: Path = field(metadata=ONCE)
    output_dir: Path = field(metadata=ONCE)
    work_dir: Path | None = None

    @property
    def retrospective_dir(self) -> Path:
        """Where ``--retrospective`` makes the coarser data set that is then worked on."""
        return self.output_dir / "sourcedata" / "retrospective"

    @property
    def retrospective_truth_dir(self) -> Path:
        """Where it keeps the measured volumes, the truth of that data set."""
        return self.output_dir / "sourcedata" / "retrospective-truth"


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection(Section):
    """Which part of the data set is worked on; empty means everything. Labels carry no prefix."""

    analysis_level: Literal["participant", "group"] = field(default="participant", metadata=ONCE)
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    task_id: tuple[str, ...] = ()
    run_id: tuple[int, ...] = ()
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False

    def _check(self) -> None:
        for name, prefix in (("participant_label", "sub-"), ("session_label", "ses-"), ("task_id", "task-")):
            labels = tuple(dict.fromkeys(label.removeprefix(prefix) for label in getattr(self, name)))
            self._set(name, labels)
            for label in labels:
                why = f"{label!r} is no BIDS label: letters and digits, several of them separated by spaces"
                self._need(_is_label(label), name, why)
        self._set("run_id", tuple(dict.fromkeys(self.run_id)))
        self._need(all(run >= 0 for run in self.run_id), "run_id", "runs are numbered from 0 or 1 up")


def _check_method(name: str) -> None:
    """Refuse what is no method or baseline; of a method of an earlier version say what has come of it."""
    learned, baselines, what = offered_methods(), tuple(BASELINES), f"{name!r} is not a super-resolution method"
    if name in REMOVED and name not in learned + baselines:
        fix = f"name {REMOVED[name]} instead (--sr-method {REMOVED[name]}, or methods of the settings file)"
        raise UsageError(what, f"it was removed from the program; {REMOVED[name]} takes its place", fix)
    if name not in learned + baselines:
        why = f"the methods are {', '.join(learned)}; the baselines are {', '.join(baselines)}"
        raise UsageError(what, why, nearest_name(name, learned + baselines) or "choose one of these")


@dataclass(frozen=True, kw_only=True, slots=True)
class SuperRes(Section):
    """How resolution is raised.

    `methods`: names, or `auto`: what the data of each run allow.
    `factor`: ratio of voxel sizes in plane; None: told by the T2*w pair or the calibration, else 2.
    `target`: BOLD runs, or structural scans, whose contrasts are fused. For these are `train_on`, a participant's own
    scans or those of all others of the call, and `anat_align`, the transforms that bring the scans of a head together.
    `recipe`: of methods that have no `paper-mse` of their own it is `paper`.
    `warm_start`: `srgan` begins with the network of simulated heads that the package has, instead of with nothing.
    `calibration`: short high-resolution run that tells where others fluctuate: auto, none, an acq- label, or a file.
    """

    target: Literal["bold", "anat"] = "bold"
    train_on: Literal["own", "others"] = "own"
    anat_align: Literal["rigid", "affine", "nonlinear"] = "rigid"
    methods: tuple[str, ...] = (AUTO,)
    baselines: Literal["default", "all"] = "default"
    factor: float | None = None
    hr_acq: str | None = None
    lr_acq: str | None = None
    calibration: str = "auto"
    recipe: Literal["fast", "paper", "paper-mse"] = "fast"
    model_source: Literal["auto", "train", "reuse"] = "auto"
    model_dir: Path | None = None
    warm_start: bool = False
    pretrained: tuple[Path, ...] = ()
    vgg_weights: Path | None = None
    max_train_minutes: float | None = None
    data_consistency: Literal["off", "report", "enforce"] = "report"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    force: bool = False
    guide: Literal["auto", "highres", "none"] = "auto"
    n_ensemble: int = 1

    def _check(self) -> None:
        self._each_once("methods", "pretrained")
        for name in ("hr_acq", "lr_acq", "calibration"):
            label = getattr(self, name)
            self._set(name, label and label.removeprefix("acq-"))
        named = _is_label(self.calibration) or self.calibration_file is not None
        self._need(named, "calibration", "it is auto, none, the acq- label of a BOLD run, or a file (.nii.gz)")
        for name in self.methods:
            if name != AUTO:
                _check_method(name)
        self._need(bool(self.methods), "methods", "at least one method or baseline is needed")
        self._need(self.factor is None or 1 < self.factor <= 8, "factor", "a factor lies above 1, and up to 8")
        self._need_positive("max_train_minutes", "it is a positive number")
        self._need(1 <= self.n_ensemble <= 20, "n_ensemble", "a number of models lies from 1 to 20")

    @property
    def auto(self) -> bool:
        """Whether each run gets the methods that its data allow."""
        return AUTO in self.methods

    @property
    def chosen(self) -> tuple[str, ...]:
        """Methods and baselines by their names; with `auto` all that a run may get."""
        found = AUTO_METHODS[self.target] if self.auto else ()
        return tuple(dict.fromkeys((*found, *(name for name in self.methods if name != AUTO))))

    @property
    def learned(self) -> tuple[str, ...]:
        """The methods that train or load a model."""
        return tuple(name for name in self.chosen if name not in BASELINES)

    @property
    def pair_trained(self) -> tuple[str, ...]:
        """The methods that learn from a T2*w pair, one model for all runs of the pair."""
        return tuple(name for name in self.learned if name in methods_trained_on("pair", "images"))

    @property
    def run_trained(self) -> tuple[str, ...]:
        """The methods and controls that find the variance maps of a run, for each run its own."""
        found = methods_trained_on("series")
        return tuple(name for name in dict.fromkeys((*self.learned, *self.series)) if name in found)

    @property
    def volume_trained(self) -> tuple[str, ...]:
        """The methods that learn from the acquired volumes of a run alone, one model for each run."""
        return tuple(name for name in self.learned if name in methods_trained_on("self"))

    @property
    def calibration_file(self) -> Path | None:
        """The file that `calibration` names, where it names one."""
        return Path(self.calibration) if self.calibration.endswith((".nii", ".nii.gz")) else None

    @property
    def dense(self) -> bool:
        """Whether a network of ten dense layers over whole volumes is trained, as the paper of `tv` has it."""
        return self.recipe != "fast" and any(get_method(name).large for name in self.learned)

    def models_to_reuse(self, output_dir: Path) -> Path | None:
        """Where models are looked for; those of the output itself where reuse is asked for and no place named."""
        own = output_dir / "sourcedata" / "models"
        return self.model_dir or (own if self.model_source == "reuse" else None)

    @property
    def series(self) -> tuple[str, ...]:
        """Every series that is made besides ``raw``, baselines first.

        Where only baselines were asked for, those that need a pair are left out unless named, so that data without
        a pair can be run.
        """
        baselines = DEFAULT_BASELINES if self.baselines == "default" else tuple(BASELINES)
        if not self.learned:
            extra = tuple(b for b in baselines if b not in PAIR_BASELINES) if self.baselines == "all" else ()
            return tuple(dict.fromkeys(self.chosen + extra))
        named = tuple(name for name in self.chosen if name not in self.learned)
        return tuple(dict.fromkeys(baselines + named + series_names(self.learned)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing(Section):
    """Before super-resolution. `dummy_scans` None: detected. `slice_time_ref` is a fraction of the TR.

    `echo`: of multi-echo runs the one that is used alone; None: they are combined.
    `derivatives` are folders that another program left, as ``NAME=DIR`` or ``DIR``; what is in them is not made again.
    """

    derivatives: tuple[str, ...] = ()
    echo: int | None = None
    dummy_scans: int | None = None
    slice_time_ref: float = 0.5
    ignore: tuple[Literal["slicetiming", "events"], ...] = ()
    output_spaces: tuple[str, ...] = ()
    output_dtype: Literal["int16", "float32"] = "int16"

    def _check(self) -> None:
        self._each_once("derivatives")
        for text in self.derivatives:
            self._need(bool(text.strip()) and not text.endswith("="), "derivatives", "it is NAME=DIR, or DIR alone")
        self._need(self.echo is None or self.echo >= 1, "echo", "echoes are numbered from 1")
        self._need(self.dummy_scans is None or self.dummy_scans >= 0, "dummy_scans", "it is a number from 0 up")
        self._need(0 <= self.slice_time_ref <= 1, "slice_time_ref", "a fraction of the TR lies from 0 to 1")
        self._need(len(self.output_spaces) <= 1, "output_spaces", "maps go to one template in a run")
        for space in self.output_spaces:
            self._need(_is_label(space), "output_spaces", "a space is one plain name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation(Section):
    """Maps of activity. `smoothing` is FWHM in mm; `low_pass` (CC path only) and `high_pass` are in Hz.

    `low_pass` None switches the filter off. `contrasts` empty: each trial type, all of them, and pairs of up to three.
    `roi`: auto, brain, names of regions joined by commas, or a file; see `bids_sr.region_names`.
    `seeds`: of the connectivity maps of runs without events, see `bids_sr.config.seed_options`.
    """

    contrasts: tuple[str, ...] = ()
    kinds: tuple[Literal["cc", "glm"], ...] = ("cc", "glm")
    smoothing: tuple[float, ...] = (0.0, 5.0)
    low_pass: float | None = 0.1
    high_pass: float = 1 / 128
    roi: str = region_names.AUTO
    thresholds: tuple[str, ...] = ("quarter", "fdr")
    seeds: tuple[str, ...] = DEFAULT_SEEDS

    def _check(self) -> None:
        self._each_once("contrasts", "kinds", "smoothing", "thresholds", "seeds")
        self._check_roi()
        self._need(bool(self.seeds), "seeds", "at least one seed is needed, or `components`")
        self._need(COMPONENTS not in self.seeds or len(self.seeds) == 1, "seeds", "components stand alone")
        for text in self.seeds if self.seeds != (COMPONENTS,) else ():
            try:
                parse_seed(text)
            except ValueError as error:
                raise UsageError(f"activation.seeds: {text}", str(error), nearest_name(text, known_names())) from error
        names = seed_names(seeds_of(self.seeds, with_anat=True))
        self._need(len(set(names)) == len(names), "seeds", "two seeds have one name")
        self._need(bool(self.kinds), "kinds", "at least one of cc and glm is needed")
        self._need(bool(self.smoothing), "smoothing", "at least one width is needed; 0 is none")
        self._need(all(0 <= mm <= 50 for mm in self.smoothing), "smoothing", "a width lies from 0 to 50 mm")
        self._need(_apart(self.smoothing), "smoothing", "two widths are alike in tenths of a millimeter")
        self._need(self.high_pass >= 0, "high_pass", "a frequency is not negative")
        above = self.low_pass is None or self.low_pass > self.high_pass
        self._need(above, "low_pass", "it lies above the high-pass frequency")
        numbers = [threshold for threshold in self.thresholds if threshold not in ("quarter", "fdr")]
        readable = all(re.fullmatch(r"\d+(\.\d+)?", number) for number in numbers)
        self._need(readable, "thresholds", "a threshold is quarter, fdr or a value of z such as 3.1")
        self._need(_apart(map(float, numbers)), "thresholds", "two values of z are alike in tenths")

    def _check_roi(self) -> None:
        try:
            region_names.region_labels(self.roi)
        except ValueError as error:
            groups, known = tuple(region_names.GROUPS), tuple(region_names.atlas_labels())
            why = f"{error} is not a region: choose auto, brain, {', '.join(groups)}, labels of AAL2, or a mask file"
            fix = (
                nearest_name(str(error), (*groups, "brain", *known)) or "for a mask file, give its path with the folder"
            )
            raise UsageError(f"activation.roi: {self.roi}", why, fix) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Section):
    """What tells whether the finer maps are true.

    `truth`: high-resolution reference, a folder (excludes `retrospective`, which makes one), auto (in the data), none.
    `null_checks`: shuffles without signal. `margin`: of the equivalence test; None: a tenth of B-spline to measured.
    """

    truth: str = AUTO
    retrospective: Literal["clean", "noisy"] | None = None
    pair_holdout: bool = False
    null_checks: int = 0
    roi_grow: bool = False
    margin: float | None = None

    def _check(self) -> None:
        why = "it makes its own truth, so it excludes a folder of evaluation.truth (--truth)"
        self._need(self.truth_dir is None or self.retrospective is None, "retrospective", why)
        self._need(0 <= self.null_checks <= 100_000, "null_checks", "a number of shuffles lies from 0 to 100000")
        self._need_positive("margin", "it is a positive number")

    @property
    def truth_dir(self) -> Path | None:
        """The folder that `truth` names."""
        return None if self.truth in (AUTO, "none") else Path(self.truth)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources(Section):
    """What the machine gives. None: all processors, one thread a node, the memory that is free.

    `use_plugin` is a file that says how nodes become jobs of a cluster, see `bids_sr.config.plugin`.
    """

    nprocs: int | None = None
    omp_nthreads: int | None = None
    mem_gb: float | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    random_seed: int = 0
    use_plugin: Path | None = None

    def _check(self) -> None:
        for name in ("nprocs", "omp_nthreads"):
            self._need(getattr(self, name) is None or getattr(self, name) >= 1, name, "at least 1")
        fits = self.omp_nthreads is None or self.nprocs is None or self.omp_nthreads <= self.nprocs
        why = f"one step cannot take more threads than there are processors (nprocs is {self.nprocs})"
        self._need(fits, "omp_nthreads", why)
        self._need_positive("mem_gb", "it is a positive number of gigabytes")
        self._need(0 <= self.random_seed < 2**32, "random_seed", "a seed lies from 0 to 4294967295")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(Section):
    """How this one call runs and what it tells.

    `strict`: one run that cannot be done stops all. `verbosity`: 0 stages, 1 details, 2 everything.
    """

    strict: bool = False
    stop_on_first_crash: bool = False
    boilerplate_only: bool = field(default=False, metadata=ONCE)
    reports_only: bool = field(default=False, metadata=ONCE)
    resource_monitor: bool = False
    write_graph: bool = False
    sloppy: bool = False
    dry_run: bool = field(default=False, metadata=ONCE)
    config_file: Path | None = field(default=None, metadata=ONCE)
    verbosity: int = 0
    run_uuid: str = field(default="", metadata=ONCE)

    def _check(self) -> None:
        self._need(not (self.boilerplate_only and self.reports_only), "boilerplate_only", "it excludes reports_only")
        self._need(self.verbosity >= 0, "verbosity", "it is a number from 0 up")


def _apart(values: Iterable[float]) -> bool:
    """Whether values differ in tenths, which is what names of files hold of them."""
    tenths = [round(value * 10) for value in values]
    return len(set(tenths)) == len(tenths)


def _is_label(text: str) -> bool:
    """Whether a text has letters and digits alone."""
    return re.fullmatch("[0-9A-Za-z]+", text) is not None
