"""Options of the subcommands of ``bids-sr-models``."""

from functools import partial
from pathlib import Path
from typing import Literal

from bids_sr.config.section import OptionSection, argument, option
from bids_sr.config.vgg19_weights import VGG19_HELP
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError
from bids_sr.io.series import INTERPOLATIONS
from bids_sr.io.word_lists import enumerate_words

_DegradationName = Literal["kspace", "multislice", "block", "gauss", "trilinear"]
AllowedMismatch = Literal["resolution", "contrast", "orientation", "factor"]
# options of groups in the help
_image_option = partial(
    option,
    among="input images (registered, with the same field of view, and listed in the same order)",
)
_training_option = partial(option, among="training")
_set_option = partial(option, among="training, validation and test sets")
_CONTRASTS = ("T1w", "T2w", "FLAIR")


@frozen
class ListOptions(OptionSection):
    """Options of ``list``: methods, models and folders of models to describe."""

    names: tuple[str, ...] = option(
        (),
        "METHOD|MODEL|DIR",
        "methods whose settings to show, trained models (.safetensors) whose model cards to"
        " show, or directories whose models to list (default: all methods, and the models of"
        " the package)",
        nargs="*",
    )


@frozen
class RateOptions(OptionSection):
    """Options of ``rate``: a kit to create from scans, or a kit with completed sheets."""

    kit: Path = argument("KIT", "directory of the rating kit; a new kit needs an empty directory")
    sheets: tuple[Path, ...] = option(
        (), "SHEET", "completed rating sheets to score, one per rater", nargs="*"
    )
    derivatives: Path | None = option(
        None,
        "--make OUT",
        "create the kit from the structural scans in this output directory of bids-sr",
    )
    series: tuple[str, ...] = option(
        (),
        "--series NAME",
        "with --make: series to rate, such as native (acquired at the low resolution),"
        " bspline, attunet and measured (default: all series)",
    )
    seed: int = option(
        0,
        "--seed N",
        "with --make: random seed of codes and order of the pictures",
        least=0,
    )
    out: Path | None = option(
        None,
        "-o --out TSV",
        "with sheets: table for the mean ratings; the tests are written to …_tests.tsv, and"
        " raters and their agreement to a JSON file",
    )

    def _check(self) -> None:
        is_made = self.derivatives is not None
        if is_made == bool(self.sheets):
            reason = "a kit is either created with --make OUT, or its completed sheets are scored"
            raise UsageError("rate", reason, "specify either --make OUT or one or more sheets")
        for flag, is_given, fix in (
            ("--series", bool(self.series) and not is_made, "add --make OUT"),
            ("--out", self.out is not None and is_made, "omit --out"),
        ):
            if is_given:
                reason = "--series applies to a new kit, and --out to completed sheets"
                raise UsageError(flag, reason, fix)


@frozen
class NetworkOptions(OptionSection):
    """Options for the images and for the device of a network."""

    contrast: str | None = option(
        None,
        "--contrast SUFFIX",
        "BIDS suffix of all images (default: taken from the file names)",
    )
    factor: tuple[float, ...] = option(
        (),
        "--factor F",
        "low-resolution divided by high-resolution voxel size: one number (in-plane) or three"
        " numbers (default: factor of the model, or 2)",
        least=1,
        most=8,
    )
    threads: int = option(1, "--threads N", "number of threads of the network", least=1)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "--device", "device of the network")

    def _check(self) -> None:
        self._need(len(self.factor) in (0, 1, 3), "factor", "expected one or three numbers")


@frozen
class ImageOptions(NetworkOptions):
    """Options for the application of a model to an image."""

    allow: tuple[AllowedMismatch, ...] = option(
        (),
        "--allow MISMATCH",
        "apply the model even if the image differs from the training data in these properties",
    )
    patch: int | None = option(
        None,
        "--patch N",
        "apply the network to patches of N high-resolution voxels and join them; 0: whole"
        " slices or volumes (default: patch size of the model, which --recipe paper sets for"
        " networks trained on patches)",
        least=0,
        most=1024,
    )
    overlap: int = option(
        0,
        "--overlap N",
        "overlap of neighboring patches in voxels; its outer half is discarded to avoid"
        " visible borders",
        least=0,
        most=512,
    )

    def _check(self) -> None:
        NetworkOptions._check(self)
        if self.patch and self.overlap >= self.patch:
            reason = f"the overlap must be smaller than the patch size (--patch {self.patch})"
            raise UsageError(f"--overlap {self.overlap}", reason, "use a smaller --overlap")
        if self.patch == 0 and self.overlap:
            reason = (
                "--overlap applies only to patch-based inference, but --patch 0 processes"
                " whole images"
            )
            raise UsageError("--overlap with --patch 0", reason, "omit --overlap")


@frozen
class ApplyOptions(ImageOptions):
    """Options of ``apply``."""

    model: str = argument(
        "MODEL",
        "trained model (.safetensors), or an interpolation method:"
        f" {enumerate_words(INTERPOLATIONS, 'or')}",
    )
    image: Path = argument("IMAGE", "NIfTI image or time series to super-resolve")
    out: Path = argument("OUT", "output NIfTI file; a JSON sidecar is also written")
    mask: Path | None = option(
        None,
        "--mask FILE",
        "brain mask on the grid of the image (default: computed from the image)",
    )


@frozen
class SeriesOptions(OptionSection):
    """Options of ``series``."""

    bold: Path = argument("BOLD", "acquired BOLD series (4D NIfTI), before smoothing")
    out: Path = argument(
        "OUT",
        "output series (.nii.gz); sidecar, brain mask, head motion, prior SD map and effect maps"
        " have the same name with a suffix",
    )
    method: str = option(
        "sbl",
        "--method NAME",
        "method or baseline that needs no other image of the participant, such as sbl, bspline,"
        " zerofill or sdmod",
    )
    factor: tuple[float, ...] = option(
        (2.0,),
        "--factor F",
        "acquired divided by high-resolution voxel size: one number (in-plane) or three numbers"
        " (default: 2)",
        least=1,
        most=8,
    )
    mask: Path | None = option(
        None,
        "--mask FILE",
        "brain mask on the grid of the series (default: computed from the series)",
    )
    realigned: bool = option(
        False, "--realigned", "head motion was already corrected and is not estimated"
    )
    events: Path | None = option(
        None,
        "--events TSV",
        "BIDS events of the run; effects and their total SDs are mapped, in percent",
    )
    threads: int = option(1, "--threads N", "number of threads", least=1)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "--device", "device of the method")

    def _check(self) -> None:
        self._need(len(self.factor) in (1, 3), "factor", "expected one or three numbers")


@frozen
class ModelEvaluationOptions(ImageOptions):
    """Options of ``evaluate``."""

    reference: tuple[Path, ...] = argument(
        "REFERENCE",
        "measured high-resolution images or time series (NIfTI)",
    )
    model: tuple[str, ...] = option(
        (),
        "-m --model MODEL",
        "trained models (.safetensors) to evaluate, in addition to all interpolation methods",
    )
    image: tuple[Path, ...] = option(
        (),
        "--image IMAGE",
        "measured low-resolution images, registered to the references and with the same field"
        " of view, one per reference in the same order",
    )
    mask: tuple[Path, ...] = option(
        (),
        "--mask FILE",
        "brain masks on the grids of the low-resolution images, one per reference (default:"
        " computed from the images)",
    )
    group: tuple[str, ...] = option(
        (),
        "--group LABEL",
        "group of each reference, such as its scanner; groups are compared by Welch's"
        " analysis of variance",
    )
    degradation: _DegradationName | None = option(
        None,
        "--degradation",
        "downsample the references instead of using --image",
    )
    made: tuple[Path, ...] = option(
        (),
        "--made FILE",
        "images on the grids of the references, from other programs or of another contrast to"
        " correlate with the reference: any number for one reference, otherwise one per"
        " reference in the same order",
    )
    volumes: int = option(10, "--volumes N", "number of volumes to score per time series", least=1)
    figures: Literal["none", "png", "svg"] = option(
        "none",
        "--figures",
        "draw figures of each reference (slice, enlarged region, difference maps,"
        " decorrelation curves of the effective resolution, joint histograms), and write an"
        " HTML page; requires --out",
    )
    out: Path | None = option(
        None, "-o --out TSV", "also write the scores to this table and its JSON sidecar"
    )

    def _check(self) -> None:
        ImageOptions._check(self)
        if bool(self.image) == (self.degradation is not None):
            reason = (
                "both options were specified" if self.image else "neither option was specified"
            )
            fix = (
                "use --image COARSE if a low-resolution image was measured, otherwise use"
                " --degradation kspace"
            )
            raise UsageError("exactly one of --image and --degradation is required", reason, fix)
        self._check_counts()
        if self.figures != "none" and self.out is None:
            reason = "figures are written to the directory of the output table"
            raise UsageError("--figures without --out", reason, "add --out TABLE.tsv")

    def _check_counts(self) -> None:
        """Reject lists of files that do not match the references one to one."""
        count = len(self.reference)
        for name in ("image", "mask", "group", "made"):
            values = getattr(self, name)
            if values and len(values) != count and (name != "made" or count > 1):
                subject = f"--{name}: {len(values)} value(s)"
                fix = f"specify one value per reference in the same order, or omit --{name}"
                raise UsageError(subject, f"{count} references were specified", fix)
        repeated_paths = {path for path in self.reference if self.reference.count(path) > 1}
        if repeated_paths:
            raise UsageError(
                f"{min(repeated_paths)}",
                "the reference is listed more than once",
                "specify each reference only once",
            )


@frozen
class TrainOptions(NetworkOptions):
    """Options of ``train``, shared by ``compare``."""

    method: str = argument("METHOD", "method to train (bids-sr-models list shows all)")
    out: Path = argument(
        "OUT", "name of the model: OUT.safetensors, OUT.json and OUT.tsv are written"
    )
    fine: tuple[Path, ...] = _image_option((), "--fine FILE", "high-resolution images")
    coarse: tuple[Path, ...] = _image_option(
        (),
        "--coarse FILE",
        "measured low-resolution images, one per high-resolution image (default: simulated"
        " with --degradation). If the method requires no high-resolution images, omit --fine",
    )
    mask: tuple[Path, ...] = _image_option(
        (),
        "--mask FILE",
        "brain masks on the grids of the images, one per image (default: computed from the"
        " images)",
    )
    volumes: int = _image_option(
        10, "--volumes N", "number of volumes per time series, drawn at random", least=1
    )
    degradation: _DegradationName | None = _training_option(
        None,
        "--degradation",
        "method for downsampling the high-resolution images without --coarse (default:"
        " depends on the method)",
    )
    recipe: Literal["fast", "paper"] = _training_option(
        "fast",
        "--recipe",
        "training recipe: fast (takes minutes), or paper (as published, takes days)",
    )
    recipe_changes: tuple[str, ...] = _training_option(
        (),
        "--set FIELD=VALUE",
        "change settings of the recipe, such as batch=8 (bids-sr-models list METHOD shows all)",
    )
    start: Path | None = _training_option(
        None, "--from MODEL", "start from the weights of this model"
    )
    train_last: int | None = _training_option(
        None, "--train-last N", "train only the last N layers; requires --from", least=1
    )
    keep_critic: bool = _training_option(
        False,
        "--keep-critic",
        "store the critic in the model file, to continue training with --from (attunet models"
        " always include it)",
    )
    vgg_weights: Path | None = _training_option(None, "--vgg-weights FILE", VGG19_HELP)
    max_minutes: float | None = _training_option(
        None,
        "--max-minutes MIN",
        "maximum training time in minutes; rerun the same command to continue",
        above=0,
    )
    train_precision: Literal["auto", "fp32", "mixed"] = _training_option(
        "auto",
        "--train-precision",
        "numerical precision of training: fp32, or mixed (bf16 if it does not change the"
        " score). auto: fp32 on the CPU; on a GPU, mixed, or the published precision with the"
        " recipe paper",
    )
    seed: int = _training_option(
        0, "--seed N", "random seed of initial weights, batches and augmentation", least=0
    )
    work_dir: Path | None = _training_option(
        None,
        "-w --work-dir DIR",
        "directory for checkpoints and the training log, to resume interrupted training"
        " (default: OUT.work, removed at the end)",
    )


@frozen
class CompareOptions(TrainOptions):
    """Options of ``compare``."""

    method: str = argument("METHODS", "methods to train, separated by commas")
    out: Path = argument(
        "OUT",
        "name of the table OUT.tsv; tests are written to the same directory, and models to"
        " OUT_models",
    )
    channels: tuple[str, ...] = _image_option(
        (),
        "--channels SUFFIX",
        "contrasts as input channels of one network (T1w T2w FLAIR); --fine and --coarse list"
        " scans of all contrasts, prepared with bids-sr ... --sr-target anat",
    )
    recipe_changes: tuple[str, ...] = _training_option(
        (),
        "--set FIELD=VALUES",
        "change settings of all recipes, or of one method with METHOD.FIELD; several values"
        " are compared: FIELD=A,B,C or, with --trials, FIELD=LOW..HIGH",
    )
    trials: int | None = _training_option(
        None,
        "--trials N",
        "number of trials per method, with values drawn at random from --set (default: all"
        " combinations of the listed values). If --set has no lists or ranges, the learning"
        " rate and the smaller loss weights are drawn from a tenth to ten times their defaults",
        least=1,
        most=10_000,
    )
    folds: int | None = _set_option(
        None, "--folds K", "number of folds for cross-validation across participants", least=2
    )
    validation: int = _set_option(
        0,
        "--validation N",
        "number of validation participants per fold, for choosing the number of training"
        " steps; requires --folds",
        least=0,
    )
    split: tuple[int, ...] = _set_option(
        (),
        "--split N",
        "numbers of training, validation and test participants, drawn at random (8 2 2), or"
        " of training and test participants (8 4)",
    )
    test_on: tuple[str, ...] = _set_option(
        (), "--test-on LABEL", "test participants; all others are used for training"
    )
    validate_on: tuple[str, ...] = _set_option(
        (),
        "--validate-on LABEL",
        "validation participants, for choosing the number of training steps; requires --test-on",
    )
    train_coarser: tuple[float, ...] = _training_option(
        (1.0,),
        "--train-coarser F",
        "train each method on images downsampled by these factors; 1 is the original resolution",
        least=1,
        most=8,
    )
    test_coarser: float = _training_option(
        1.0,
        "--test-coarser F",
        "test the methods on images downsampled by F. With --train-coarser 1, they are then"
        " trained at a higher resolution; with --train-coarser F, at the same resolution",
        least=1,
        most=8,
    )
    dry_run: bool = option(
        False,
        "--dry-run",
        "print the participant sets and planned training runs without training",
    )
    # a training stopped by time would not be reproducible
    max_minutes: float | None = option(None)

    def _check(self) -> None:
        TrainOptions._check(self)
        self._check_sets()
        self._check_channels()
        for flag, is_given in (
            ("--train-coarser", self.train_coarser != (1.0,)),
            ("--test-coarser", self.test_coarser != 1),
        ):
            if self.coarse and is_given:
                raise UsageError(
                    f"{flag} with --coarse",
                    "measured low-resolution images are available at only one resolution",
                    "omit one of the two options",
                )

    def _check_channels(self) -> None:
        """Reject channels without the required scans, and options that exclude channels."""
        if not self.channels:
            return
        subject = f"--channels {' '.join(self.channels)}"
        has_repetitions = len(set(self.channels)) < len(self.channels)
        if has_repetitions or len(self.channels) < 2 or not set(self.channels) <= set(_CONTRASTS):
            reason = f"expected two or three different contrasts of {', '.join(_CONTRASTS)}"
            raise UsageError(subject, reason, "use, for example, --channels T1w T2w FLAIR")
        if not self.coarse:
            reason = "multi-contrast super-resolution requires measured low-resolution scans"
            raise UsageError(
                f"{subject} without --coarse",
                reason,
                "specify the low-resolution scans with --coarse, one per high-resolution scan",
            )
        if len(self.coarse) != len(self.fine):
            reason = f"{len(self.fine)} high-resolution images were specified"
            raise UsageError(
                f"--coarse: {len(self.coarse)} file(s)",
                reason,
                "specify one low-resolution image per high-resolution image",
            )
        for flag, is_given in (
            ("--factor", bool(self.factor)),
            ("--contrast", self.contrast is not None),
        ):
            if is_given:
                reason = (
                    "factor and contrast are already known, because all scans are on the"
                    " high-resolution grid and have the contrast in their file names"
                )
                raise UsageError(f"{flag} with --channels", reason, f"omit {flag}")

    def _check_sets(self) -> None:
        """Reject contradictory or incomplete options for the sets of participants."""
        flag_is_given = {
            "--folds": self.folds is not None,
            "--split": bool(self.split),
            "--test-on": bool(self.test_on),
        }
        flags = [flag for flag, is_given in flag_is_given.items() if is_given]
        if len(flags) != 1:
            reason = (
                f"these options cannot be combined: {' '.join(flags)}"
                if flags
                else "none of these options was specified"
            )
            fix = "use, for example, --folds 4 or --split 8 2 2"
            raise UsageError(
                "exactly one of --folds, --split and --test-on is required", reason, fix
            )
        self._need(len(self.split) in (0, 2, 3), "split", "expected two or three numbers")
        if self.validation and self.folds is None:
            fix = "specify three numbers with --split, or use --validate-on"
            raise UsageError("--validation", "this option requires --folds", fix)
        if self.validate_on and not self.test_on:
            raise UsageError(
                "--validate-on",
                "this option requires --test-on",
                "specify the test participants with --test-on",
            )
