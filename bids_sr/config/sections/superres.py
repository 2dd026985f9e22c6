"""Settings of super-resolution, and the methods and series that they request."""

from pathlib import Path
from typing import Literal

from bids_sr.config.section import OptionSection, execution_option, is_label, option
from bids_sr.config.values import SettingError, suggest_name
from bids_sr.config.vgg19_weights import VGG19_HELP
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput, UsageError
from bids_sr.io.series import (
    ALL_BASELINES,
    BASELINES,
    DEFAULT_BASELINES,
    SDMOD,
    get_kind,
    series_names,
)
from bids_sr.sr.method import (
    get_method,
    method_names,
    method_names_without_controls,
    methods_trained_on,
)
from bids_sr.sr.recipe_changes import RecipeChange, check_changes

_AUTO = "auto"
# methods that `auto` may select, by target; the last one is the method of the primary comparison
# of the group level
_AUTO_METHODS: dict[str, tuple[str, ...]] = {"bold": ("srgan", "sbl"), "anat": ("attunet",)}
# methods that `auto` selects if slices get thinner: 3D methods without high-resolution image
_AUTO_METHODS_FOR_THINNER_SLICES = ("tv",)


@frozen
class SuperRes(OptionSection):
    """Settings of super-resolution.

    `method` contains names of methods and baselines, ``auto`` for all methods and ``all`` for all
    baselines that the data of a run allow. `factor` is
    the acquired divided by the high-resolution voxel size: one number (in-plane) or three numbers
    (the last one across slices). If it is empty, the factor is taken from the T2*w pair, the
    calibration run or the given model, and is 2 in-plane otherwise.

    `recipe_changes` replaces single settings of recipes.
    """

    target: Literal["bold", "anat"] = option(
        "bold",
        "--sr-target",
        "images to super-resolve: BOLD runs (bold), or T1w, T2w and FLAIR scans (anat): at two"
        " resolutions, together (methods attunet, unet and vit), or one high-resolution scan with"
        " simulated low resolution (cpce and circle)",
    )
    method: tuple[str, ...] = option(
        (_AUTO,),
        "--sr-method NAME",
        f"methods: auto, or any of {', '.join(method_names_without_controls())}. sbl, tv and dip"
        " require no pair. auto: sbl, also srgan with a pair, tv for thinner slices. Baselines:"
        f" all, or any of {', '.join(BASELINES)}. With a method, bspline and zerofill are always"
        " computed; with a high-resolution reference, also sdmod and, with a T2*w pair, inject"
        " and ratio",
        common="auto, or methods such as sbl, tv and srgan (default: auto)",
    )
    factor: tuple[float, ...] = option(
        (),
        "--sr-factor F",
        "acquired divided by high-resolution voxel size: one number (in-plane), or three"
        " numbers (x, y, across slices; requires a 3D method). By default, the factor of the"
        " T2*w pair (at most 4), the calibration run or the --pretrained model, or 2",
        common="acquired / high-resolution voxel size (default: from the data, or 2)",
        least=1,
        most=8,
    )
    calibration: str = option(
        "auto",
        "--calibration {auto,none,LABEL,FILE}",
        "short high-resolution BOLD run for the prior SD map of the other runs: auto"
        " (identified by its voxel size), none, an acq- label, or a file",
        common="high-resolution BOLD run for calibration (default: by voxel size)",
    )
    recipe: Literal["fast", "paper"] = option(
        "fast",
        "--recipe",
        "training recipe: fast (takes minutes), or paper (as published, takes days)",
    )
    recipe_changes: tuple[RecipeChange, ...] = option(
        (),
        "--set NAME.FIELD=VALUE",
        "set any field of settings.toml (see below), for example activation.drift=legendre:4"
        " or 'activation.smoothing=[0, 5]', or a setting of a method (bids-sr-models list"
        " METHOD), for example tv.tv=0.02",
        common="any other setting, such as activation.thresholds=fdr or tv.tv=0.02",
    )
    model_source: Literal["auto", "train", "reuse"] = execution_option(
        "auto",
        help=(
            "use of existing models. train: none. reuse: only models from superres.model_dir."
            " auto: a model that was trained on the same pair, if available"
        ),
    )
    model_dir: Path | None = execution_option(None, help="directory of the trained models")
    pretrained: tuple[Path, ...] = option(
        (),
        "--pretrained FILE",
        "models (.safetensors) to use instead of training, one per method",
    )
    vgg_weights: Path | None = option(
        None,
        "--vgg-weights FILE",
        VGG19_HELP,
    )
    max_train_minutes: float | None = option(
        None,
        "--max-train-minutes MIN",
        "maximum training time in minutes. Networks that reach it are not applied (the series is"
        " zero filled); a later call with another limit continues their training",
        above=0,
    )
    train_precision: Literal["auto", "fp32", "mixed"] = option(
        "auto",
        help=(
            "numerical precision of training: fp32, or mixed (bf16 if it does not change the"
            " score). auto: fp32 on the CPU; on a GPU, mixed, or the published precision with the"
            " recipe paper"
        ),
    )
    data_consistency: Literal["off", "enforce"] = option(
        "off",
        help=(
            "acquired frequencies in k-space of super-resolved images: off, or enforce (replaced"
            " by the acquired data)"
        ),
    )
    force: bool = execution_option(
        False,
        help=(
            "use of models and runs despite differences: models for other resolutions or"
            " orientations, and runs whose k-space is empty below the Nyquist frequency of the"
            " voxel size"
        ),
    )

    def _check(self) -> None:
        self._remove_duplicates("method", "pretrained")
        self._set("calibration", self.calibration.removeprefix("acq-"))
        is_specified = is_label(self.calibration) or self.calibration_file is not None
        self._need(
            is_specified,
            "calibration",
            "expected auto, none, the acq- label of a BOLD run, or a file (.nii.gz)",
        )
        for name in self.method:
            if name not in (_AUTO, ALL_BASELINES):
                _check_method(name)
        self._need(
            bool(self.method), "method", "at least one method or baseline must be specified"
        )
        self._check_factor()
        try:
            check_changes(
                self.recipe_changes,
                [name for name in self.chosen if name in method_names()],
                self.recipe,
                vgg=self.vgg_weights is not None,
            )
        except InvalidInput as error:
            raise SettingError(
                self._where("recipe_changes"), error.argument, error.reason, error.remedy
            ) from None

    def _check_factor(self) -> None:
        """Raise `SettingError` for a factor of two numbers, or a factor without effect."""
        count = len(self.factor)
        reason = ""
        if count not in (0, 1, 3):
            reason = (
                f"{count} numbers were given, but one number (in-plane) or three numbers (x, y"
                " and across slices) are expected"
            )
        elif count and max(self.factor) == 1:
            reason = (
                "at least one number must be above 1, otherwise the voxel size would not change"
            )
        if reason:
            fix = (
                "use --sr-factor 2 for smaller in-plane voxels, or --sr-factor 2 2 2 for thinner"
                " slices as well"
            )
            text = " ".join(f"{number:g}" for number in self.factor)
            raise SettingError(self._where("factor"), text, reason, fix)
        if count == 3 and self.factor[0] == self.factor[1] and self.factor[2] == 1:
            self._set("factor", self.factor[:1])  # equal factors are equal settings

    @property
    def factor_by_axis(self) -> tuple[float, float, float] | None:
        """Requested acquired divided by high-resolution voxel size along each axis, or None."""
        if not self.factor:
            return None
        x, y, z = self.factor if len(self.factor) == 3 else (*self.factor, *self.factor, 1.0)
        return x, y, z

    @property
    def thins_slices(self) -> bool:
        """Whether the requested factor makes slices thinner."""
        return self.factor_by_axis is not None and self.factor_by_axis[2] != 1

    @property
    def auto(self) -> bool:
        """Whether the methods depend on the data of each run."""
        return _AUTO in self.method

    @property
    def all_baselines(self) -> bool:
        """Whether all baselines are computed that the data of a run allow."""
        return ALL_BASELINES in self.method

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the requested methods and baselines; `auto` stands for all its methods.

        The baselines of `all` are not included.
        """
        names = [name for name in self.method if name not in (_AUTO, ALL_BASELINES)]
        if self.auto and self.thins_slices:
            names = [*_AUTO_METHODS_FOR_THINNER_SLICES, *names]
        elif self.auto:
            names = [*_AUTO_METHODS[self.target], *names]
        return tuple(dict.fromkeys(names))

    @property
    def learned(self) -> tuple[str, ...]:
        """Requested methods that train or load a model."""
        return tuple(name for name in self.chosen if get_kind(name) != "baseline")

    @property
    def pair_trained(self) -> tuple[str, ...]:
        """Requested methods that are trained on a T2*w pair, for all runs of the pair."""
        return tuple(name for name in self.learned if name in methods_trained_on("pair", "images"))

    @property
    def run_trained(self) -> tuple[str, ...]:
        """Requested methods and controls that estimate prior SD maps for each run."""
        series_methods = methods_trained_on("series")
        return tuple(
            name for name in dict.fromkeys((*self.learned, *self.series)) if name in series_methods
        )

    @property
    def calibrated(self) -> bool:
        """Whether any requested method uses a calibration run."""
        return any(get_method(name).uses_calibration for name in self.run_trained)

    @property
    def volume_trained(self) -> tuple[str, ...]:
        """Requested methods that train one model per run on its own acquired volumes."""
        return tuple(name for name in self.learned if name in methods_trained_on("self"))

    @property
    def calibration_file(self) -> Path | None:
        """File in `calibration`, or None if it is not a file."""
        return Path(self.calibration) if self.calibration.endswith((".nii", ".nii.gz")) else None

    @property
    def recipe_text(self) -> str:
        """Recipe with its changes, for reports."""
        return " ".join([self.recipe, *map(str, self.recipe_changes)])

    @property
    def dense(self) -> bool:
        """Whether a network with some 2,000 feature maps is trained on whole volumes (`tv`)."""
        return self.recipe != "fast" and any(
            get_method(name).needs_much_memory for name in self.learned
        )

    def models_to_reuse(self, output_dir: Path) -> Path | None:
        """Return the directory to search for trained models, or None.

        With ``superres.model_source=reuse`` but without ``superres.model_dir``, models in the
        output directory are reused.
        """
        output_models = output_dir / "sourcedata" / "models"
        return self.model_dir or (output_models if self.model_source == "reuse" else None)

    @property
    def series(self) -> tuple[str, ...]:
        """Names of all series except ``acquired`` that a run may have, baselines first.

        Without methods, these are the requested baselines. `sdmod` works in-plane and is omitted
        if slices get thinner, unless requested by name.
        """
        baselines: tuple[str, ...] = ()
        if self.all_baselines:
            baselines = tuple(BASELINES)
        elif self.learned:
            baselines = DEFAULT_BASELINES
        if self.thins_slices:
            baselines = tuple(name for name in baselines if name != SDMOD)
        requested = (name for name in self.chosen if name not in self.learned)
        return tuple(dict.fromkeys((*baselines, *requested, *series_names(self.learned))))


def _check_method(name: str) -> None:
    """Raise `UsageError` for an unknown method or baseline."""
    methods, baselines = method_names_without_controls(), tuple(BASELINES)
    if name not in methods + baselines:
        available = (
            f"available methods: {', '.join(methods)}; available baselines: {', '.join(baselines)}"
        )
        fix = suggest_name(name, methods + baselines) or "choose one of these methods"
        raise UsageError(f"{name!r} is not a super-resolution method", available, fix)
