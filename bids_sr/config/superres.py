"""Settings of super-resolution, and which methods and series they ask for."""

from pathlib import Path
from typing import Literal

from bids_sr.config.section import Checked, is_label, option
from bids_sr.config.values import UsageError, nearest_name
from bids_sr.frozen import frozen
from bids_sr.series import BASELINES, DEFAULT_BASELINES, PAIR_BASELINES, series_names
from bids_sr.sr.method import REMOVED, get_method, methods_trained_on, offered_methods

_AUTO = "auto"
_AUTO_METHODS: dict[str, tuple[str, ...]] = {"bold": ("srgan", "sbl"), "anat": ("srgan",)}
"""What `auto` may stand for, by target."""


def _check_method(name: str) -> None:
    """Refuse an unknown method or baseline, telling what became of an earlier version's."""
    learned, baselines, what = (
        offered_methods(),
        tuple(BASELINES),
        f"{name!r} is not a super-resolution method",
    )
    if name in REMOVED and name not in learned + baselines:
        fix = (
            f"name {REMOVED[name]} instead (--sr-method {REMOVED[name]}, or methods of the"
            " settings file)"
        )
        raise UsageError(
            what, f"it was removed from the program; {REMOVED[name]} takes its place", fix
        )
    if name not in learned + baselines:
        why = f"the methods are {', '.join(learned)}; the baselines are {', '.join(baselines)}"
        raise UsageError(
            what, why, nearest_name(name, learned + baselines) or "choose one of these"
        )


@frozen
class SuperRes(Checked):
    """How resolution is raised.

    `methods`: names, or `auto`: what the data of each run allow.
    `factor`: ratio of voxel sizes in plane; None: told by the T2*w pair or the calibration, else
    2. `target`: BOLD runs, or structural scans, whose contrasts are fused. For these are
       `train_on`, a participant's own
    scans or those of all others of the call, and `anat_align`, the transforms that bring the scans
    of a head together. `recipe`: of methods that have no `paper-mse` of their own it is `paper`.
    `calibration`: short high-resolution run that tells where others fluctuate: auto, none, an acq-
    label, or a file.
    """

    target: Literal["bold", "anat"] = option(
        "bold",
        "--sr-target",
        "bold: functional runs; anat: T1w, T2w and FLAIR at two resolutions, fused (methods"
        " attunet, unet, vit)",
    )
    train_on: Literal["own", "others"] = option(
        "own",
        "--train-on",
        "training scans for --sr-target anat: the participant's own, or those of all others",
    )
    anat_align: Literal["rigid", "affine", "nonlinear"] = option(
        "rigid", "--anat-align", "registration between the scans of a head for --sr-target anat"
    )
    methods: tuple[str, ...] = option(
        (_AUTO,),
        "--sr-method NAME",
        "auto (sbl, and srgan if there is a T2*w pair), or one or more of"
        f" {', '.join(offered_methods())} (sbl, tv, dip need no pair), or baselines alone",
        common=True,
    )
    baselines: Literal["default", "all"] = option(
        "default",
        "--baselines",
        "baselines for comparison: bspline zerofill sdmod, with a pair and a high-resolution"
        " reference also inject ratio; all: these without a reference, too, and nearest linear"
        " lanczos",
    )
    factor: float | None = option(
        None,
        "--sr-factor F",
        "in-plane ratio of voxel sizes (default: that of the T2*w pair or the calibration run,"
        " else 2)",
        above=1,
        most=8,
    )
    hr_acq: str | None = option(
        None, "--hr-acq LABEL", "acq- label of the high-resolution T2*w image", decides=False
    )
    lr_acq: str | None = option(
        None, "--lr-acq LABEL", "acq- label of the low-resolution T2*w image", decides=False
    )
    calibration: str = option(
        "auto",
        "--calibration {auto,none,LABEL,FILE}",
        "short high-resolution BOLD run, from which the variance map of the other runs is"
        " estimated: auto (matched by voxel size), none, an acq- label, or a file",
        common=True,
    )
    recipe: Literal["fast", "paper", "paper-mse"] = option(
        "fast",
        "--recipe",
        "training: fast (minutes), paper (as published, days), paper-mse (paper, with squared"
        " error in the loss)",
    )
    model_source: Literal["auto", "train", "reuse"] = option(
        "auto",
        "--model-source",
        "auto reuses a model of the same pair from --model-dir",
        decides=False,
    )
    model_dir: Path | None = option(
        None, "--model-dir DIR", "folder with trained models", decides=False
    )
    pretrained: tuple[Path, ...] = option(
        (),
        "--pretrained FILE",
        "use these .safetensors models, one per method, instead of training",
    )
    vgg_weights: Path | None = option(
        None, "--vgg-weights FILE", "VGG-19 weights (.safetensors); enables the perceptual loss"
    )
    max_train_minutes: float | None = option(
        None,
        "--max-train-minutes MIN",
        "limit of training time; the model is then marked as not reproducible",
        above=0,
    )
    n_ensemble: int = option(
        1,
        "--n-ensemble N",
        "models per method, with different seeds; the spread of their effects is a map",
        least=1,
        most=20,
    )
    data_consistency: Literal["off", "enforce"] = option(
        "off", "--data-consistency", "enforce puts what was acquired back into its band of k-space"
    )
    guide: Literal["auto", "highres", "none"] = option(
        "auto",
        "--guide",
        "whether sbl adds static detail of the high-resolution T2*w image; auto: if there is a"
        " pair",
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "--precision", "numerical precision of inference; auto is fp32"
    )
    force: bool = option(
        False,
        "--force",
        "apply a model to a resolution or orientation for which it was not trained, and process a"
        " run whose k-space is empty below the limit of its voxels",
        decides=False,
    )

    def _check(self) -> None:
        self._each_once("methods", "pretrained")
        for name in ("hr_acq", "lr_acq", "calibration"):
            label = getattr(self, name)
            self._set(name, label and label.removeprefix("acq-"))
        named = is_label(self.calibration) or self.calibration_file is not None
        self._need(
            named,
            "calibration",
            "it is auto, none, the acq- label of a BOLD run, or a file (.nii.gz)",
        )
        for name in self.methods:
            if name != _AUTO:
                _check_method(name)
        self._need(bool(self.methods), "methods", "at least one method or baseline is needed")

    @property
    def auto(self) -> bool:
        """Whether each run gets the methods that its data allow."""
        return _AUTO in self.methods

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return methods and baselines by their names; with `auto` all that a run may get."""
        found = _AUTO_METHODS[self.target] if self.auto else ()
        return tuple(dict.fromkeys((*found, *(name for name in self.methods if name != _AUTO))))

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
        return tuple(
            name for name in dict.fromkeys((*self.learned, *self.series)) if name in found
        )

    @property
    def calibrated(self) -> bool:
        """Whether a calibration would enter any method."""
        return any(get_method(name).calibrated for name in self.run_trained)

    @property
    def volume_trained(self) -> tuple[str, ...]:
        """The methods that train one model for each run on its own acquired volumes."""
        return tuple(name for name in self.learned if name in methods_trained_on("self"))

    @property
    def calibration_file(self) -> Path | None:
        """The file that `calibration` names, where it names one."""
        return Path(self.calibration) if self.calibration.endswith((".nii", ".nii.gz")) else None

    @property
    def dense(self) -> bool:
        """Whether ten dense layers are trained on whole volumes, as in the `tv` paper."""
        return self.recipe != "fast" and any(get_method(name).large for name in self.learned)

    def models_to_reuse(self, output_dir: Path) -> Path | None:
        """Return where to look for models.

        With reuse and no directory given, these are the models in the output directory itself.

        Folder with models; None where none was named or asked for.
        """
        own = output_dir / "sourcedata" / "models"
        return self.model_dir or (own if self.model_source == "reuse" else None)

    @property
    def series(self) -> tuple[str, ...]:
        """Every series that is made besides ``raw``, baselines first.

        Where only baselines were asked for, those that need a pair are left out unless named, so
        that data without a pair can be run.
        """
        baselines = DEFAULT_BASELINES if self.baselines == "default" else tuple(BASELINES)
        if not self.learned:
            extra = (
                tuple(b for b in baselines if b not in PAIR_BASELINES)
                if self.baselines == "all"
                else ()
            )
            return tuple(dict.fromkeys(self.chosen + extra))
        named = tuple(name for name in self.chosen if name not in self.learned)
        return tuple(dict.fromkeys(baselines + named + series_names(self.learned)))
