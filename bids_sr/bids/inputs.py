"""Data model of the inputs, as frozen values: participants, BOLD runs and image pairs.

What belongs to participants, runs and pairs is modeled here, too.

Options of methods: static detail, ``--pretrained`` models, and options without effect.

Static detail is taken from an image.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from bids_sr.bids.findings import Derivatives, Findings, PrecomputedAnat, PrecomputedRun
from bids_sr.bids.headers import is_slice_timing
from bids_sr.config import Settings, SuperRes
from bids_sr.config.vgg19_weights import VGG19_COMMAND, vgg19_for
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json
from bids_sr.io.grids import AS_STORED, AxisOrder, Header, Shape, Triple, size_text
from bids_sr.io.volume_times import middle_of_acquisition, reference_time
from bids_sr.series import PAIR_BASELINES, SDMOD, series_names
from bids_sr.sr.former_names import current_names, renaming
from bids_sr.sr.method import get_method, method_names, offered_methods

DEFAULT_FACTORS: Triple = (2.0, 2.0, 1.0)  # unless a pair, an option or a model states it

_LARGEST = 8  # along an axis
_LARGEST_MM = 100.0  # voxel size of a grid of structural scans
ENTITIES: dict[str, str] = {
    "sub": "subject",
    "ses": "session",
    "sample": "sample",
    "task": "task",
    "tracksys": "tracksys",
    "acq": "acquisition",
    "ce": "ceagent",
    "trc": "tracer",
    "stain": "staining",
    "rec": "reconstruction",
    "dir": "direction",
    "run": "run",
    "mod": "modality",
    "echo": "echo",
    "flip": "flip",
    "inv": "inv",
    "mt": "mt",
    "part": "part",
    "proc": "proc",
    "space": "space",
    "split": "split",
    "recording": "recording",
    "chunk": "chunk",
    "res": "res",
    "den": "den",
    "label": "label",
    "desc": "desc",
}
"""Short entity name in a file name → long name of pybids."""
RUN_KEYS = (
    "subject",
    "session",
    "task",
    "acquisition",
    "ceagent",
    "reconstruction",
    "direction",
    "run",
)
"""Entities that tell runs apart: echoes are one run, magnitude goes without saying."""


@frozen
class Pair:
    """One contrast of a participant at two resolutions, to learn from; paths are absolute.

    `lowres`: if None, it is made of the other one by k-space truncation. `factor`: low- over
    high-resolution voxel size, each axis. `orders`: of axes of the files, to lie as the run's.
    """

    highres: Path
    lowres: Path | None
    factor: Triple
    orders: tuple[AxisOrder, AxisOrder] = (AS_STORED, AS_STORED)

    @property
    def contrast(self) -> str:
        """BIDS suffix: T2starw, or T1w, T2w and FLAIR of ``--sr-target anat``."""
        return self.highres.name.partition(".")[0].rpartition("_")[2]

    @property
    def images(self) -> tuple[Path, ...]:
        """The images that were acquired."""
        return (self.highres,) if self.lowres is None else (self.highres, self.lowres)


@frozen
class LowresScan:
    """Structural scan without a high-resolution counterpart; the path is absolute."""

    path: Path

    @property
    def contrast(self) -> str:
        """BIDS suffix: T1w, T2w or FLAIR."""
        return self.path.name.partition(".")[0].rpartition("_")[2]

    @property
    def images(self) -> tuple[Path, ...]:
        """The image that was acquired."""
        return (self.path,)


@frozen
class ModelInput:
    """Input of the ``--pretrained`` models of structural scans.

    `contrasts`: BIDS suffixes in the order of the channels. `mm`: voxel size of the grid.
    `orientation`: anatomical axis across slices: ``R-L``, ``P-A`` or ``I-S``.
    """

    contrasts: tuple[str, ...]
    mm: Triple
    orientation: str


@frozen
class Truth:
    """Reference for the finer maps of a run: the measured series, known effects, or both.

    `activations`: condition → map in signal units, high resolution.
    """

    root: Path | None = None
    series: "BoldRun | None" = None
    activations: Mapping[str, Path] = field(default_factory=dict)


@frozen
class BoldRun:
    """A BOLD series as header and sidecar tell it, with what belongs to it; paths are absolute.

    Slices lie along its third axis, whatever the order in its file. Companions of a run are BOLD
    runs, too, with axes as near to those of the run as can be.

    `sidecar`: after inheritance. `events`: None at rest, and where they are ignored.
    `slice_timing`: seconds from the start of a volume, one per slice along axis 2; None: slice
    timing is not corrected. `echoes`: file and echo time (ms) of each echo that is combined, of
    which `bold` is the first; empty for a single echo. `factor`: acquired over high-resolution
    voxel size, each axis. `pair`: the images of the same person that this run is super-resolved
    with. `holdout`: a second pair, which is not trained on, where that was asked for.
    `calibration`: short run at the high resolution that it is calibrated with. `another`: run of
    the same task, where series of other programs are judged. `compared`: name → series of another
    program, judged beside it.
    """

    header: Header = field(repr=False)
    tr: float
    sidecar: Mapping[str, object] = field(default_factory=dict)
    events: Path | None = None
    slice_timing: tuple[float, ...] | None = None
    echoes: tuple[tuple[Path, float], ...] = ()
    factor: Triple = DEFAULT_FACTORS
    pair: Pair | None = None
    holdout: Pair | None = None
    truth: Truth | None = None
    precomputed: PrecomputedRun | None = None
    calibration: "BoldRun | None" = None
    another: "BoldRun | None" = None
    compared: Mapping[str, "BoldRun"] = field(default_factory=dict)

    @property
    def bold(self) -> Path:
        """Return its file; of several echoes the first."""
        return self.header.path.absolute()

    @property
    def shape(self) -> Shape:
        """Matrix of a volume."""
        x, y, z = self.header.shape[:3]
        return x, y, z

    @property
    def n_volumes(self) -> int:
        """How many volumes it has."""
        return self.header.shape[3]

    @property
    def zooms(self) -> Triple:
        """Voxel size (mm)."""
        return self.header.zooms

    @property
    def affine(self) -> np.ndarray:
        """Voxel to RAS mm (4, 4)."""
        return self.header.affine

    @property
    def axis_order(self) -> AxisOrder:
        """Return axis of the file that each axis of the run is."""
        return self.header.order

    @property
    def entities(self) -> dict[str, str]:
        """Long name of pybids → label, in the order of the file name; of all echoes."""
        named = entities_of(self.bold)
        return {k: label for k, label in named.items() if not (self.echoes and k == "echo")}

    @property
    def stem(self) -> str:
        """File name without suffix and extension, common to all echoes.

        An example is ``sub-01_ses-1_task-tap_run-1``.
        """
        return stem_of_echoes(self.bold) if self.echoes else stem_of(self.bold)

    @property
    def duration(self) -> float:
        """Length of the run (s)."""
        return self.n_volumes * self.tr

    @property
    def voxel(self) -> str:
        """Voxel size as text."""
        return size_text(self.zooms)

    @property
    def is_corrected(self) -> bool:
        """Whether slice timing was corrected in it already."""
        return bool(self.sidecar.get("SliceTimingCorrected", False))

    def start_time(self, fraction: float) -> float:
        """Return the moment of a volume for which its values hold, in s after its start.

        It is the moment to which slice timing is corrected here, or was corrected before
        (StartTime), else the middle of the time in which the slices of a volume are acquired.

        Parameters
        ----------
        fraction : float
            Moment of the slice acquisition range to which slice timing is corrected (0: first
            slice, .5: middle, 1: last slice).
        """
        if self.slice_timing is not None:
            return reference_time(self.slice_timing, fraction)
        start, times = self.sidecar.get("StartTime"), self.sidecar.get("SliceTiming")
        if self.is_corrected and isinstance(start, int | float) and 0 <= start <= self.tr:
            return float(start)
        if is_slice_timing(times, self.header.shape[2], self.tr):
            return reference_time(times, 0.5)
        delay = self.sidecar.get("DelayTime")
        if isinstance(delay, int | float) and 0 <= delay < self.tr:
            return middle_of_acquisition(self.tr, float(delay))
        return middle_of_acquisition(self.tr)

    @property
    def images(self) -> tuple[Path, ...]:
        """Return images that are read for this run besides those of its pairs."""
        measured = None if self.truth is None else self.truth.series
        others = (self.calibration, measured, self.another, *self.compared.values())
        return (
            self.bold,
            *(path for path, _ in self.echoes[1:]),
            *(one.bold for one in others if one is not None),
        )


@frozen
class Subject:
    """One participant.

    `runs`: BOLD runs that are processed; empty for structural scans. `precomputed`: what another
    program has made; its T1w image is then the first. `structural`: contrasts that ``--sr-target
    anat`` works on. `controls`: contrasts of each session that has high-resolution scans only
    (``--anat-control``); without low-resolution images. `lowres`: contrasts of each session that
    has low-resolution scans only, for ``--pretrained`` models.
    """

    label: str
    t1w: tuple[Path, ...]
    runs: tuple[BoldRun, ...]
    precomputed: PrecomputedAnat | None = None
    structural: tuple[Pair, ...] = ()
    controls: tuple[tuple[Pair, ...], ...] = ()
    lowres: tuple[tuple[LowresScan, ...], ...] = ()

    @property
    def has_scans(self) -> bool:
        """Whether structural scans of this participant are processed."""
        return bool(self.structural or self.controls or self.lowres)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The distinct pairs of the runs, in the order of the runs."""
        return tuple(dict.fromkeys(run.pair for run in self.runs if run.pair is not None))

    @property
    def images(self) -> tuple[Path, ...]:
        """Every image that is read, each once: what is checked voxel by voxel before the work."""
        scans = (*self.structural, *(scan for session in self.controls for scan in session))
        pairs = (*scans, *self.pairs, *self.holdouts.values())
        lowres = [scan for session in self.lowres for scan in session]
        of: tuple[Pair | LowresScan | BoldRun, ...] = (*pairs, *lowres, *self.runs)
        return tuple(dict.fromkeys([*self.t1w[:1], *(path for one in of for path in one.images)]))

    @property
    def holdouts(self) -> dict[Pair, Pair]:
        """Pair that is trained on → pair that is scored, in the order of the runs."""
        return {
            run.pair: run.holdout
            for run in self.runs
            if run.pair is not None and run.holdout is not None
        }


@dataclass(slots=True)
class Survey(Findings):
    """Everything that file names, sidecars and headers tell, and what speaks against it.

    `type_order` has for each task the trial types in the order that decides the sign of default
    contrasts, the same for every participant of the data set.

    `subjects`: with the runs that are sound. `chosen`: name → BOLD file and events table of all
    runs chosen: tables of unsound ones are checked, too.
    """

    subjects: tuple[Subject, ...] = ()
    chosen: dict[str, tuple[Path, Path | None]] = field(default_factory=dict)
    sources: tuple[Derivatives, ...] = ()
    type_order: dict[str, tuple[str, ...]] = field(default_factory=dict)


def stem_of(path: Path) -> str:
    """File name of an image without extension and BIDS suffix."""
    name = (
        path.name.removesuffix(".gz")
        .removesuffix(".nii")
        .removesuffix(".tsv")
        .removesuffix(".json")
    )
    return name.rpartition("_")[0]


def stem_of_echoes(path: Path) -> str:
    """Name of the run that the file of an echo belongs to: `stem_of` without the echo.

    >>> stem_of_echoes(Path("sub-01_task-tap_echo-1_run-2_bold.nii.gz"))
    'sub-01_task-tap_run-2'
    """
    return re.sub(r"_echo-[0-9]+", "", stem_of(path))


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities of a file name, with pybids' long names, in the order of the name.

    Labels remain text; unknown entities keep their short name.
    """
    pairs = (part.partition("-") for part in path.name.split("_")[:-1] if "-" in part)
    return {ENTITIES.get(key, key): value for key, _, value in pairs}


def same_run(first: Mapping[str, str], second: Mapping[str, str], keys: Iterable[str]) -> bool:
    """Return whether two sets of entities name one scan, as far as these keys tell.

    Session and run are compared as numbers.

    >>> first, second = {"task": "tap", "run": "01"}, {"task": "tap", "run": "1", "desc": "hmc"}
    >>> same_run(first, second, ("task", "run"))
    True

    True if all these labels agree; missing ones agree with missing ones.
    """
    numbered = ("session", "run")
    return all(label_of(first, key, numbered) == label_of(second, key, numbered) for key in keys)


def label_of(entities: Mapping[str, str], key: str, numbered: tuple[str, ...] = ("run",)) -> str:
    """Return the label of an entity ("" without one), without leading zeros if numbered."""
    label = entities.get(key, "")
    return str(int(label)) if key in numbered and label.isdigit() else label


def applies_to(file: Path, image: Path) -> bool:
    """Return whether a sidecar or table applies to an image (inheritance principle).

    It does if all entities in its name are those of the image.
    """
    own = entities_of(image)
    return all(own.get(key) == value for key, value in entities_of(file).items())


def is_magnitude(path: Path) -> bool:
    """False for phase, real and imaginary parts."""
    return entities_of(path).get("part", "mag") == "mag"


_GuideKind = Literal["highres", "none"]


def guide_of(superres: SuperRes, run: BoldRun) -> _GuideKind:
    """Return the image whose static detail variance methods add, if any.

    It is the one asked for, or that of the pair where there is one.
    """
    if superres.guide == "auto":
        return "highres" if run.pair is not None else "none"
    return superres.guide


def works_in_plane(name: str) -> bool:
    """Return whether a method, or a control such as ``sdmod``, leaves slices as thick as they are.

    Interpolations, `inject` and `ratio` make slices thinner, too.
    """
    return name in method_names() and get_method(name).ndim == 2


def obstacle(name: str, run: BoldRun, superres: SuperRes) -> str:
    """Why a run cannot have a method or baseline that needs not be there, or "".

    Reason in words; empty where there is no obstacle.
    """
    if name in PAIR_BASELINES:
        return "" if run.pair is not None else "no T2*w pair"
    if run.factor[2] != 1 and works_in_plane(name) and (superres.auto or name == SDMOD):
        return "this slice-wise method cannot reduce the slice thickness"
    if (
        name not in superres.pair_trained
        or not superres.auto
        or pretrained_for(superres, name) is not None
    ):
        return ""
    if run.pair is None:
        return "no T2*w pair"
    return "a single slice" if run.shape[2] == 1 else ""


def series_of_run(run: BoldRun, superres: SuperRes) -> tuple[str, ...]:
    """Return the series of a run in order of computation, ``raw`` first, as the data allow.

    Baselines that take their detail from the pair or the run stand beside a method where a
    reference judges both, and elsewhere where they are asked for.
    """
    without = [
        name for name in (*superres.learned, *PAIR_BASELINES) if obstacle(name, run, superres)
    ]
    if run.truth is None and superres.baselines == "default":
        without += [name for name in (SDMOD, *PAIR_BASELINES) if name not in superres.chosen]
    return ("raw", *(name for name in superres.series if name not in series_names(without)))


def refuse_all(findings: Findings, table: Iterable[tuple[bool, str, str, str]]) -> None:
    """Add the problems of a table that hold: whether it does, file, reason, fix.

    `table`: condition, file or option, reason and remedy of each possible problem.
    """
    for holds, file, reason, fix in table:
        if holds:
            findings.refuse(file, reason, fix)


def check_guide(superres: SuperRes, subject: Subject, findings: Findings) -> None:
    """Refuse a guide that was asked for by name and is not there."""
    for run in subject.runs:
        if superres.run_trained and superres.guide == "highres" and run.pair is None:
            fix = (
                "Omit --guide. By default, static detail is added to all runs that have a"
                " T2*-weighted pair."
            )
            findings.refuse(
                run.bold,
                (
                    "--guide highres requires a T2*-weighted pair, but no pair was found for this"
                    " run"
                ),
                fix,
            )


def check_options(settings: Settings, findings: Findings) -> None:
    """Refuse options that could do nothing with the methods chosen."""
    superres, evaluation = settings.superres, settings.evaluation
    anat = "Omit the option, or add --sr-target anat."
    smoothed = settings.preprocessing.input_smoothing
    refuse_all(
        findings,
        [
            (
                bool(smoothed and evaluation.compare),
                f"--input-smoothing {smoothed:g}",
                "a series computed by another program (--compare) is not smoothed before"
                " super-resolution, so it cannot be compared with series computed from smoothed"
                " input",
                "Omit one of the two options.",
            ),
            (
                superres.train_on != "own",
                f"--train-on {superres.train_on}",
                "this option applies only to structural scans, but the inputs are BOLD runs",
                anat,
            ),
            (
                superres.anat_align != "rigid",
                f"--anat-align {superres.anat_align}",
                "this option applies only to structural scans, but the inputs are BOLD runs",
                anat,
            ),
            (
                superres.anat_control,
                "--anat-control",
                "this option applies only to structural scans, but the inputs are BOLD runs",
                anat,
            ),
            (
                superres.anat_mask != "brain",
                f"--anat-mask {superres.anat_mask}",
                "this option applies only to structural scans, but the inputs are BOLD runs",
                anat,
            ),
            (
                superres.anat_scale != "auto",
                f"--anat-scale {superres.anat_scale}",
                "this option applies only to structural scans, but the inputs are BOLD runs",
                anat,
            ),
            (
                superres.anat_tools != "ants",
                f"--anat-tools {superres.anat_tools}",
                "this option applies only to structural scans, but the inputs are BOLD runs",
                anat,
            ),
            (
                superres.lesion_template is not None,
                f"--lesion-template {superres.lesion_template}",
                "this option applies only to structural scans, but the inputs are BOLD runs",
                anat,
            ),
            (
                superres.wmh_reference is not None,
                f"--wmh-reference {superres.wmh_reference}",
                "this option applies only to structural scans, but the inputs are BOLD runs",
                anat,
            ),
            (
                superres.n_ensemble > 1 and not superres.learned,
                f"--n-ensemble {superres.n_ensemble}",
                "an ensemble requires a trained method, but no method in --sr-method is trained",
                "Omit the option, or add a trained method to --sr-method.",
            ),
        ],
    )
    check_given_models(superres, findings)
    _check_through_slices(superres, findings)
    _check_perceptual(settings, findings)
    refuse_all(
        findings,
        [
            (
                evaluation.retrospective is not None and bool(settings.preprocessing.derivatives),
                "--derivatives",
                (
                    "--retrospective processes downsampled copies of the runs, but the fMRIPrep"
                    " output is on the grid of the original runs"
                ),
                "Omit one of the two options.",
            ),
            (
                evaluation.pair_holdout and not superres.pair_trained,
                "--pair-holdout",
                (
                    "this option evaluates methods that are trained on a T2*-weighted pair, but"
                    " no such method is selected with --sr-method"
                ),
                "Omit the option, or add a method that is trained on the pair, such as srgan.",
            ),
        ],
    )


def _check_through_slices(superres: SuperRes, findings: Findings) -> None:
    """Refuse requested methods that work in plane if slices get thinner."""
    factor = factor_without_pair(superres)
    if factor is None or factor[2] == 1:
        return
    volumetric = [name for name in offered_methods() if not works_in_plane(name)]
    source = "--sr-factor" if superres.factor else "--pretrained"
    for name in superres.methods:
        if not works_in_plane(name):
            continue
        reason = (
            f"this slice-wise method cannot reduce the slice thickness, but {source} requests the"
            f" factors {factor[0]:g} {factor[1]:g} {factor[2]:g}"
        )
        fix = (
            f"Choose a 3D method ({', '.join(volumetric)}), or omit --sr-method to use the default"
            " for this factor (tv)."
        )
        if superres.factor:
            fix += f" To keep the slice thickness instead, use --sr-factor {factor[0]:g}."
        findings.refuse_option(f"--sr-method {name}", reason, fix)


def check_given_models(superres: SuperRes, findings: Findings) -> None:
    """Refuse ``--pretrained`` models that no method asks for, or two models of one method."""
    first: dict[str, Path] = {}
    for file in superres.pretrained:
        method = method_of_model(file)
        if method is None or method not in method_names():
            continue  # no file, no card or no such method, which is told where the file is opened
        where, what = f"--pretrained {file}", f"the file contains a {method} model"
        renamed = renaming(read_json(file.with_suffix(".json")))
        what = renamed or what
        if method not in superres.learned:
            fix = f"Add {method} to --sr-method, or omit this file from --pretrained."
            findings.refuse_option(
                where, f"{what}, but --sr-method does not include this method", fix
            )
        elif method in first:
            fix = (
                "Specify one model per method. To compare two models, run the program twice with"
                " different output directories."
            )
            findings.refuse_option(
                where,
                f"{what}, but {first[method]} already specifies a model for this method",
                fix,
            )
        elif renamed:
            findings.tell(where, f"{renamed}.")
        first.setdefault(method, file)
    if superres.n_ensemble > 1 and superres.learned and set(superres.learned) <= set(first):
        reason = (
            "the models of all methods are loaded from --pretrained files, so no ensemble"
            " can be trained"
        )
        findings.refuse_option(
            f"--n-ensemble {superres.n_ensemble}", reason, "Omit one of the two options."
        )


def _check_perceptual(settings: Settings, findings: Findings) -> None:
    """Refuse a training that needs VGG-19 features if their weights are missing.

    Only these features would tie such a training to the high-resolution image.

    Where the model is there already only the placebo of ``--null-checks`` is trained, on the T1w
    image.
    """
    superres, placebo = settings.superres, settings.evaluation.null_checks
    if superres.recipe != "paper":
        return
    for name in superres.learned:
        trained = placebo or (
            superres.model_source != "reuse" and pretrained_for(superres, name) is None
        )
        if trained and get_method(name).needs_vgg and vgg_weights_for(superres, name) is None:
            findings.refuse_option(
                f"--sr-method {name} --recipe paper",
                "the training recipe of the paper requires VGG-19 features, but the VGG-19"
                " weights were not found",
                f"Run {VGG19_COMMAND} once to install the weights on this machine, or specify the"
                " weights with --vgg-weights. To train without VGG-19, use --recipe fast, or"
                " --recipe paper-mse, which replaces the VGG loss with the mean squared error.",
            )


def method_of_model(model: Path) -> str | None:
    """Return the method of a ``.safetensors`` file by its model card, or None.

    It is None if the card beside the file does not name a method. Names of earlier versions are
    replaced by the current ones.
    """
    card = read_json(model.with_suffix(".json"))
    return current_names(card)[0] if isinstance(card.get("method"), str) else None


def input_of_models(superres: SuperRes) -> ModelInput | None:
    """Return the input of the ``--pretrained`` models of structural scans, or None.

    It is None unless there is such a model for every method, and the card of the first model
    states contrasts, voxel size and slice orientation. Further models are compared with it later.
    """
    models = [pretrained_for(superres, name) for name in superres.learned]
    if not models or models[0] is None or None in models:
        return None
    card = read_json(models[0].with_suffix(".json"))
    resolution = card.get("resolution")
    mm = resolution.get("lowres_mm") if isinstance(resolution, dict) else None
    contrast, orientation = card.get("contrast"), card.get("orientation")
    if not isinstance(contrast, str) or orientation not in ("R-L", "P-A", "I-S"):
        return None
    if not isinstance(mm, list) or len(mm) != 3:
        return None
    if not all(isinstance(size, int | float) and 0 < size < _LARGEST_MM for size in mm):
        return None
    x, y, z = map(float, mm)
    return ModelInput(
        contrasts=tuple(contrast.split("+")), mm=(x, y, z), orientation=str(orientation)
    )


def factor_of_models(superres: SuperRes) -> Triple | None:
    """Return the factor of the ``--pretrained`` models, or None without one factor for all.

    A model that was trained with several factors has none of its own, and neither has a model
    whose method is not requested.
    """
    factors = {
        _factor_of_model(file)
        for file in superres.pretrained
        if method_of_model(file) in superres.learned
    }
    return next(iter(factors)) if len(factors) == 1 else None


def _factor_of_model(model: Path) -> Triple | None:
    """Return the one factor that a model card states; a card is checked where it is used."""
    card = read_json(model.with_suffix(".json"))
    factor = card.get("factor")
    if card.get("factors") or not isinstance(factor, list) or len(factor) != 3:
        return None
    if not all(isinstance(number, int | float) and 1 <= number <= _LARGEST for number in factor):
        return None
    x, y, z = map(float, factor)
    return None if x == y == z == 1 else (x, y, z)


def factor_without_pair(superres: SuperRes) -> Triple | None:
    """Return the factor that ``--sr-factor`` or the given models state, or None."""
    return superres.factor_by_axis or factor_of_models(superres)


def pretrained_for(superres: SuperRes, method: str) -> Path | None:
    """Return the ``--pretrained`` model of this method, or None.

    Methods without such a model are trained as usual.

    First file whose card names the method, or None.
    """
    return next((file for file in superres.pretrained if method_of_model(file) == method), None)


def vgg_weights_for(superres: SuperRes, method: str) -> Path | None:
    """Return the weights of VGG-19 that the training of this method uses, or None."""
    return vgg19_for(get_method(method), superres.recipe, superres.vgg_weights)
