"""Options of the subcommands of ``bids-sr-models``."""

from pathlib import Path
from typing import Literal

from bids_sr.config import UsageError
from bids_sr.config.section import Checked, argument, option
from bids_sr.frozen import frozen
from bids_sr.series import INTERPOLATIONS
from bids_sr.sr.method import offered_methods

_Degradation = Literal["kspace", "multislice", "block", "gauss", "trilinear"]
Mismatch = Literal["resolution", "contrast", "orientation", "factor"]
_IMAGES = "images, in the same order; registered, with the same field of view"
_HOW = "how"
_SETS = "training, validation and test sets"


@frozen
class ListOptions(Checked):
    """Of which methods the settings are listed, and where further models are."""

    names: tuple[str, ...] = option(
        (),
        "METHOD|DIR",
        "methods whose recipes and settings are shown, or directories with further trained models",
        nargs="*",
    )


@frozen
class CardOptions(Checked):
    """Of which model the card is shown."""

    model: Path = argument("MODEL", "trained model (.safetensors)")
    json: bool = option(False, "--json", "print the complete card as JSON")


@frozen
class Vgg19Options(Checked):
    """From where the weights of VGG-19 are taken."""

    file: Path | None = option(
        None,
        "FILE",
        "file vgg19-dcbb9e9d.pth of torchvision (default: searched in the cache of torch)",
        nargs="?",
    )
    download: bool = option(False, "--download", "download the file from PyTorch (575 MB)")

    def _check(self) -> None:
        if self.file is not None and self.download:
            raise UsageError(
                "--download",
                f"{self.file} was specified, so no download is needed",
                "omit one of them",
            )


@frozen
class RateMakeOptions(Checked):
    """What is rated, and where the kit is written."""

    derivatives: Path = argument("OUT", "output directory of bids-sr with structural scans")
    out: Path = argument("KIT", "directory of the kit; must be empty or not exist")
    series: tuple[str, ...] = option(
        (),
        "--series NAME",
        "series to rate, such as native bspline attunet measured; native: low-resolution scans as"
        " acquired (default: all)",
    )
    seed: int = option(
        0, "--seed N", "random seed of the codes and of the order of the pictures", least=0
    )


@frozen
class RateScoreOptions(Checked):
    """Which kit is scored, and by which sheets."""

    kit: Path = argument("KIT", "directory written by rate-make")
    sheets: tuple[Path, ...] = argument("SHEET", "filled sheets, one per rater", nargs="+")
    out: Path | None = option(
        None,
        "-o --out TSV",
        "also write the mean ratings to this file, and the tests to a JSON file of the same name",
    )


@frozen
class MachineOptions(Checked):
    """On what a network runs, and for which factor."""

    factor: tuple[float, ...] = option(
        (),
        "--factor F",
        "low- divided by high-resolution voxel size: one number (in plane), or three (default:"
        " factor of the model, or 2)",
        least=1,
        most=8,
    )
    threads: int = option(1, "--threads N", "number of threads of the network", least=1)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "--device", "device of the network")

    def _check(self) -> None:
        self._need(len(self.factor) in (0, 1, 3), "factor", "expected one number or three")


@frozen
class ImageOptions(MachineOptions):
    """How a model is applied to an image."""

    contrast: str | None = option(
        None, "--contrast SUFFIX", "BIDS suffix of the image (default: from its name)"
    )
    allow: tuple[Mismatch, ...] = option(
        (),
        "--allow MISMATCH",
        "apply a model although this differs from its training data: resolution, contrast,"
        " orientation, factor",
    )
    force: bool = option(False, "--force", "allow all of these differences")
    precision: Literal["auto", "fp32", "bf16"] = option("auto", "--precision", "auto is fp32")
    patch: int | None = option(
        None,
        "--patch N",
        "apply a network in patches of N voxels of the high-resolution grid and join them. 0:"
        " whole slices or volumes. Default: patch size of the model, which is set by the recipe"
        " paper of networks trained on patches",
        least=0,
        most=1024,
    )
    overlap: int = option(
        0,
        "--overlap N",
        "voxels that neighboring patches share; the outer half of the shared voxels is discarded,"
        " so that edges of patches are not visible",
        least=0,
        most=512,
    )

    def _check(self) -> None:
        MachineOptions._check(self)
        if self.patch and self.overlap >= self.patch:
            why = f"expected less than --patch {self.patch}"
            raise UsageError(f"--overlap {self.overlap}", why, "use a smaller --overlap")
        if self.patch == 0 and self.overlap:
            why = "an overlap is possible only with patches"
            raise UsageError("--overlap with --patch 0", why, "omit --overlap")


@frozen
class ApplyOptions(ImageOptions):
    """What is super-resolved, and by what."""

    model: str = argument(
        "MODEL", f"trained model (.safetensors), or one of {' '.join(INTERPOLATIONS)}"
    )
    image: Path = argument("IMAGE", "NIfTI image or series to super-resolve")
    out: Path = argument(
        "OUT", "NIfTI file to write; a JSON sidecar of the same name is also written"
    )
    mask: Path | None = option(
        None, "--mask FILE", "brain mask on the grid of the image (default: computed)"
    )


@frozen
class EvaluateOptions(ImageOptions):
    """What is compared with a reference."""

    reference: tuple[Path, ...] = argument(
        "REFERENCE",
        "measured high-resolution images or series (NIfTI) of one or more participants",
    )
    model: tuple[str, ...] = option(
        (),
        "-m --model MODEL",
        "trained models (.safetensors); all interpolations are always included",
    )
    image: tuple[Path, ...] = option(
        (),
        "--image IMAGE",
        "measured low-resolution images of the same field of view, registered; one per reference,"
        " in the same order",
    )
    mask: tuple[Path, ...] = option(
        (),
        "--mask FILE",
        "brain masks on the grids of the low-resolution images, one per reference (default:"
        " computed)",
    )
    group: tuple[str, ...] = option(
        (),
        "--group LABEL",
        "group of each reference, such as its resolution or scanner; Welch's analysis of variance"
        " compares the groups",
    )
    degradation: _Degradation | None = option(
        None, "--degradation", "method for downsampling the reference; alternative to --image"
    )
    made: tuple[Path, ...] = option(
        (),
        "--made FILE",
        "high-resolution images computed by other programs; with several references, one per"
        " reference, in the same order",
    )
    volumes: int = option(10, "--volumes N", "volumes of a series to score", least=1)
    figures: Literal["none", "png", "svg"] = option(
        "none",
        "--figures",
        "draw a slice, an enlarged region and the differences for all methods, one figure per"
        " reference, and write a page with tables and figures; needs --out",
    )
    decorrelation: bool = option(
        False,
        "--decorrelation",
        "also draw the decorrelation curves that determine the effective resolution; needs"
        " --figures",
    )
    out: Path | None = option(
        None, "-o --out TSV", "also write the table to this file, with a JSON sidecar"
    )

    def _check(self) -> None:
        ImageOptions._check(self)
        if bool(self.image) == (self.degradation is not None):
            why = "both were specified" if self.image else "neither was specified"
            fix = (
                "use --image COARSE if a low-resolution image was measured, otherwise"
                " --degradation kspace"
            )
            raise UsageError("one of --image and --degradation is required", why, fix)
        self._check_counts()
        if self.figures != "none" and self.out is None:
            why = "figures are written to the directory of the table"
            raise UsageError("--figures without --out", why, "add --out TABLE.tsv")
        if self.decorrelation and self.figures == "none":
            why = "the curves are drawn in a figure"
            raise UsageError("--decorrelation without --figures", why, "add --figures png or svg")

    def _check_counts(self) -> None:
        """Refuse lists of files that do not match the references one to one."""
        count = len(self.reference)
        for name in ("image", "mask", "group", "made"):
            values = getattr(self, name)
            if values and len(values) != count and (name != "made" or count > 1):
                what = f"--{name}: {len(values)} value(s)"
                fix = f"specify one per reference, in the same order, or omit --{name}"
                raise UsageError(what, f"there are {count} references", fix)
        repeated = {path for path in self.reference if self.reference.count(path) > 1}
        if repeated:
            what = f"{min(repeated)}"
            raise UsageError(what, "duplicate reference", "specify each reference once")


@frozen
class TrainOptions(MachineOptions):
    """What is trained, and on what."""

    method: str = argument("METHOD", f"one of {' '.join(offered_methods())}")
    out: Path = argument("OUT", "model to write: OUT.safetensors, OUT.json and OUT.tsv")
    fine: tuple[Path, ...] = option((), "--fine FILE", "high-resolution images", among=_IMAGES)
    coarse: tuple[Path, ...] = option(
        (),
        "--coarse FILE",
        "measured low-resolution images, one per high-resolution image (default: computed by the"
        " degradation); for methods that do not need high-resolution images, use only this option",
        among=_IMAGES,
    )
    mask: tuple[Path, ...] = option(
        (), "--mask FILE", "brain masks (default: computed)", among=_IMAGES
    )
    contrast: str | None = option(
        None,
        "--contrast SUFFIX",
        "BIDS suffix of all images (default: from the file names)",
        among=_IMAGES,
    )
    volumes: int = option(
        10, "--volumes N", "number of random volumes per series", among=_IMAGES, least=1
    )
    degradation: _Degradation | None = option(
        None,
        "--degradation",
        "method for downsampling high-resolution images if --coarse is not used (default: depends"
        " on the training method)",
        among=_HOW,
    )
    recipe: Literal["fast", "paper", "paper-mse"] = option(
        "fast", "--recipe", "paper-mse differs from paper only for srgan", among=_HOW
    )
    recipe_changes: tuple[str, ...] = option(
        (),
        "--set FIELD=VALUE",
        "change settings of the recipe, for example batch=8 (bids-sr-models list METHOD shows them"
        " with ranges and defaults)",
        among=_HOW,
    )
    start: Path | None = option(
        None, "--from MODEL", "start from the weights of this model", among=_HOW
    )
    train_last: int | None = option(
        None, "--train-last N", "train only the last N layers; needs --from", among=_HOW, least=1
    )
    keep_critic: bool = option(
        False,
        "--keep-critic",
        "also keep the critic in the model's file, for a later training with --from (the file is"
        " larger; attunet always keeps it)",
        among=_HOW,
    )
    vgg_weights: Path | None = option(
        None,
        "--vgg-weights FILE",
        "VGG-19 weights (.safetensors) for perceptual losses (default with --recipe paper:"
        " weights kept by bids-sr-models vgg19)",
        among=_HOW,
    )
    max_minutes: float | None = option(
        None,
        "--max-minutes MIN",
        "limit of the training time; the same command then continues the training",
        among=_HOW,
        above=0,
    )
    train_precision: Literal["auto", "fp32", "mixed"] = option(
        "auto",
        "--train-precision",
        "mixed: bf16 if it does not change the score; auto is mixed on a GPU, otherwise fp32",
        among=_HOW,
    )
    seed: int = option(
        0, "--seed N", "seed of weights, batches, augmentation", among=_HOW, least=0
    )
    work_dir: Path | None = option(
        None,
        "-w --work-dir DIR",
        "directory for checkpoints and the current log (default: OUT.work, removed when training"
        " is finished); an interrupted or stopped training resumes from it",
        among=_HOW,
    )


@frozen
class ChannelOptions(TrainOptions):
    """What is trained, with several contrasts per head or one."""

    channels: tuple[str, ...] = option(
        (),
        "--channels SUFFIX",
        "contrasts that are channels of one network (T1w T2w FLAIR): --fine and --coarse are then"
        " scans of all of them, prepared by bids-sr ... --sr-target anat",
        among=_IMAGES,
    )

    def _check_channels(self) -> None:
        """Refuse channels without what they need, and options that do not apply to them."""
        if not self.channels:
            return
        what = f"--channels {' '.join(self.channels)}"
        known = ("T1w", "T2w", "FLAIR")
        if len(set(self.channels)) < max(len(self.channels), 2) or set(self.channels) - set(known):
            why = f"channels are two or three different contrasts of {', '.join(known)}"
            raise UsageError(what, why, "for example --channels T1w T2w FLAIR")
        if not self.coarse:
            why = "several contrasts are super-resolved from measured low-resolution scans"
            raise UsageError(
                f"{what} without --coarse", why, "specify --coarse, one file per file of --fine"
            )
        if len(self.coarse) != len(self.fine):
            why = f"there are {len(self.fine)} high-resolution images"
            raise UsageError(
                f"--coarse: {len(self.coarse)} file(s)",
                why,
                "specify one per high-resolution image",
            )
        for flag, given in (
            ("--factor", bool(self.factor)),
            ("--contrast", self.contrast is not None),
        ):
            if given:
                why = "all scans are on the high-resolution grid, and their names have a contrast"
                raise UsageError(f"{flag} with --channels", why, f"omit {flag}")


@frozen
class SearchOptions(ChannelOptions):
    """Which settings of a recipe are tried, and on what."""

    method: str = argument("METHOD", f"one of {' '.join(offered_methods())}")
    out: Path = argument("OUT", "table to write: OUT.tsv, and its description OUT.json")
    recipe_changes: tuple[str, ...] = option(
        (),
        "--set FIELD=VALUES",
        "values that trials draw: FIELD=LOW..HIGH, FIELD=A,B,C, or FIELD=VALUE for all trials"
        " (default: learning rate and the smaller weights, from a tenth to ten times their"
        " values)",
        among=_HOW,
    )
    # trials leave no models
    keep_critic: bool = option(False)
    trials: int = option(20, "--trials N", "number of trials", among=_HOW, least=1, most=10_000)
    grid: bool = option(
        False,
        "--grid",
        "try all combinations of the values that --set lists, instead of drawing --trials of them",
        among=_HOW,
    )
    # a trial that the clock stopped could not be repeated
    max_minutes: float | None = option(None)
    split: tuple[int, ...] = option(
        (),
        "--split N",
        "numbers of randomly drawn participants for training, validation and test (40 11 10);"
        " trials are scored on the validation participants, and test participants are not used;"
        " compare with the same numbers and --seed has the same participants",
        among=_SETS,
    )
    validate_on: tuple[str, ...] = option(
        (),
        "--validate-on LABEL",
        "participants on whom trials are scored; the other participants are used for training"
        " (default: parts of the images, see the documentation)",
        among=_SETS,
    )

    def _check(self) -> None:
        TrainOptions._check(self)
        self._check_channels()
        self._need(len(self.split) in (0, 3), "split", "expected three numbers")
        if self.split and self.validate_on:
            why = "both select the validation participants"
            raise UsageError("--split with --validate-on", why, "omit one of the two")


@frozen
class CompareOptions(ChannelOptions):
    """Which methods are trained, and on which participants they are tested."""

    method: str = argument("METHODS", "methods to train, separated by commas (unet,resnet3d)")
    out: Path = argument(
        "OUT",
        "table to write: OUT.tsv; tables of tests are written to the same directory, and models to"
        " OUT_models",
    )
    folds: int | None = option(
        None,
        "--folds K",
        "K-fold cross-validation over participants",
        among=_SETS,
        least=2,
    )
    validation: int = option(
        0,
        "--validation N",
        "number of participants per fold that determine when training stops; needs --folds",
        among=_SETS,
        least=0,
    )
    split: tuple[int, ...] = option(
        (),
        "--split N",
        "numbers of randomly drawn participants for training, validation and test (8 2 2), or for"
        " training and test (8 4)",
        among=_SETS,
    )
    test_on: tuple[str, ...] = option(
        (),
        "--test-on LABEL",
        "test participants; the other participants are used for training",
        among=_SETS,
    )
    validate_on: tuple[str, ...] = option(
        (),
        "--validate-on LABEL",
        "participants that determine when training stops; needs --test-on",
        among=_SETS,
    )
    train_coarser: tuple[float, ...] = option(
        (1.0,),
        "--train-coarser F",
        "train each method on images downsampled by these factors: 1 is the resolution of the"
        " images (and of the tests, unless --test-coarser is used), 2 is half this resolution",
        among=_HOW,
        least=1,
        most=8,
    )
    test_coarser: float = option(
        1.0,
        "--test-coarser F",
        "test on images downsampled by F: --train-coarser 1 then trains at a higher resolution"
        " than the tests, --train-coarser F at the same resolution",
        among=_HOW,
        least=1,
        most=8,
    )
    dry_run: bool = option(False, "--dry-run", "print the sets and the trainings, and stop")
    # a training that the clock stopped could not be repeated
    max_minutes: float | None = option(None)

    def _check(self) -> None:
        TrainOptions._check(self)
        ways = {
            "--folds": self.folds is not None,
            "--split": bool(self.split),
            "--test-on": bool(self.test_on),
        }
        given = [flag for flag, present in ways.items() if present]
        if len(given) != 1:
            why = f"given together: {' '.join(given)}" if given else "none was specified"
            fix = "for example --folds 4, or --split 8 2 2"
            raise UsageError("one of --folds, --split and --test-on is required", why, fix)
        self._need(len(self.split) in (0, 2, 3), "split", "expected two or three numbers")
        if self.validation and self.folds is None:
            fix = "use three numbers for --split, or --validate-on"
            raise UsageError("--validation", "needs --folds", fix)
        if self.validate_on and not self.test_on:
            raise UsageError("--validate-on", "needs --test-on", "also use --test-on")
        self._check_channels()
        if self.coarse and self.train_coarser != (1.0,):
            why = "measured low-resolution images have only one resolution"
            raise UsageError("--train-coarser with --coarse", why, "omit one of the two")
        if self.coarse and self.test_coarser != 1:
            why = "measured low-resolution images have only one resolution"
            raise UsageError("--test-coarser with --coarse", why, "omit one of the two")


@frozen
class CorrelateOptions(Checked):
    """Which two images are correlated voxel by voxel."""

    first: Path = argument("A", "NIfTI image")
    second: Path = argument("B", "NIfTI image on the same grid")
    mask: Path | None = option(
        None, "--mask FILE", "mask of the voxels (default: voxels in which both images are not 0)"
    )
    figure: Path | None = option(None, "--figure FILE", "draw the joint histogram (.png or .svg)")
    out: Path | None = option(
        None, "-o --out TSV", "also write the values to this file, with a JSON sidecar"
    )
