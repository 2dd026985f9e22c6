"""`SuperResolver`: super-resolution of a BOLD series as an estimator of scikit-learn."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import nibabel as nib
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from bids_sr.api.found_run import doubt_realigned, find_run, fitted_run, still
from bids_sr.api.guide import PLAIN, refuse_without_guide
from bids_sr.api.image_inputs import (
    Dummies,
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    SuperResolutionWarning,
    checked_series,
    in_memory,
    in_plane,
    opened,
    poses_of,
    same_run_as,
    working_folder,
)
from bids_sr.api.learned_run import Learning, known_method, learn_run
from bids_sr.api.progress import notes
from bids_sr.api.run_inputs import RunInputs
from bids_sr.api.several_runs import each_run, in_lists, inputs_of_runs, is_several, of_one_run
from bids_sr.evaluation.evidence import was_applied
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import link_whole
from bids_sr.io.copies import compress_series, copy_series
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Facts
from bids_sr.pipeline.flow import Eager
from bids_sr.sr.device import Precision
from bids_sr.sr.inference.apply_to_series import Keeping
from bids_sr.sr.method import Method, get_method
from bids_sr.sr.models.model import load_model
from bids_sr.sr.recipe import RecipeName
from bids_sr.steps.training import TrainingSettings
from bids_sr.workflows.fit_run import estimate_motion
from bids_sr.workflows.make_series import Inference, resolve_series

if TYPE_CHECKING:
    from markupsafe import Markup

    from bids_sr.api.html_report import HtmlReport


_FITTED = (
    "boldref_",
    "mask_img_",
    "motion_",
    "n_dummy_",
    "factor_",
    "model_",
    "applied_",
    "facts_",
)


@dataclass(eq=False, repr=False)
class SuperResolver(TransformerMixin, BaseEstimator):
    """Bring a BOLD series to a higher resolution in plane.

    The estimator does for images in memory or files what ``bids-sr`` does for a data set, by the
    same functions: head motion is estimated, each volume is upsampled on the grid on which it was
    acquired, and interpolated once onto the high-resolution grid of the reference (boldref). Slice
    timing is not corrected here.

    Parameters
    ----------
    method : str, default="sbl"
        A method (``sbl``, ``srgan``, ...) or a baseline (``bspline``, ``zerofill``, ``sdmod``,
        ``inject``, ``ratio``, ...); any other name raises an error that lists them all.
    factor : float or tuple of three, default=2
        Acquired over wanted voxel size, in plane, or by axis.
    recipe : {"fast", "paper", "paper-mse"}, default="fast"
        How the method is trained.
    n_dummy : int or "auto", default="auto"
        Volumes at the start that are not in steady state; they are super-resolved and not learned
        from.
    realigned : bool, default=False
        Head motion was undone before; nothing is estimated, and three volumes are checked for what
        may be left.
    registered : bool, default=False
        The headers of guide and calibration tell where they lie; else they are registered to the
        reference.
    pretrained : path, optional
        Weights to use instead of training, with the model's card beside them.
    data_consistency : {"off", "enforce"}, default="off"
        "enforce" puts what was acquired back into its band of k-space.
    precision : {"fp32", "bf16", "auto"}, default="fp32"
        Arithmetic of networks; the program tries whether a lower one leaves the statistics alone,
        this class does not.
    random_state : int, default=0
        Seed of all that is drawn.
    n_jobs : int, default=1
        Threads of torch and of matrix products; no processes are started.
    device : {"cpu", "cuda"}, default="cpu"
        Where networks are trained and applied.
    max_train_minutes : float, optional
        Stop training on the clock; the model cannot be reproduced then.
    verbose : int, default=0
        1 prints each step of `fit` and `transform` as it begins, with the seconds so far.

    Attributes
    ----------
    runs_ : list of SuperResolver
        Fitted estimator of each run where `fit` was given a list; all attributes below are lists
        then.
    boldref_, mask_img_ : nibabel.Nifti1Image
        Reference of the run and its brain, on the acquired grid.
    motion_ : ndarray (T, 4, 4)
        Boldref point to the volume's point (RAS mm).
    n_dummy_ : int
        Volumes taken for not steady.
    factor_ : tuple of three floats
        Acquired over high-resolution voxel size by axis.
    model_ : object or None
        Recipe, card and weights; None for baselines.
    applied_ : bool
        False where the method was put to the test on the run, failed, and fell back to zero
        filling.
    facts_ : dict
        What was measured on the way: the test, registrations, the calibration.

    See Also
    --------
    bids_sr.Evaluator : compares super-resolved series with baselines and a reference.

    Examples
    --------
    >>> import nibabel as nib, numpy as np
    >>> from bids_sr import SuperResolver
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(100, 5, (16, 16, 4, 12)).astype("float32")
    >>> bold = nib.Nifti1Image(values, np.diag([3, 3, 3, 1]))
    >>> plain = SuperResolver("zerofill", factor=2, n_dummy=0)
    >>> still = np.tile(np.eye(4), (12, 1, 1))
    >>> fine = plain.fit_transform(bold, mask=np.ones((16, 16, 4)), motion=still)
    >>> fine.shape, [float(size) for size in fine.header.get_zooms()[:3]]
    ((32, 32, 4, 12), [1.5, 1.5, 3.0])
    >>> SuperResolver("sbll").fit(bold)
    Traceback (most recent call last):
        ...
    bids_sr.api.image_inputs.ImageInputError: method: unknown method 'sbll'; ... sbl? ...
    """

    method: str = "sbl"
    factor: float | Factor = 2
    _: KW_ONLY
    recipe: RecipeName = "fast"
    n_dummy: Dummies = "auto"
    realigned: bool = False
    registered: bool = False
    pretrained: str | os.PathLike[str] | None = None
    data_consistency: Keeping = "off"
    precision: Precision = "fp32"
    random_state: int = 0
    n_jobs: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    max_train_minutes: float | None = None
    verbose: int = 0

    def fit(
        self,
        bold: ImageLike | Sequence[ImageLike],
        y: None = None,
        *,
        mask: MaskLike | None = None,
        guide: ImageLike | None = None,
        lowres: ImageLike | None = None,
        calibration: ImageLike | None = None,
        motion: Motion | None = None,
        boldref: ImageLike | None = None,
        guide_xfm: Motion | None = None,
        calibration_xfm: Motion | None = None,
        calibration_events: str | Path | None = None,
    ) -> SuperResolver:
        """Learn what the method needs of a run.

        Parameters
        ----------
        bold : path or nibabel.Nifti1Image, or list of them
            Series (x, y, z, t) on the grid on which it was acquired, slice timing corrected where
            that is wanted. A file is read volume by volume. Runs of a list are fitted one by one,
            each to its own reference; of every other argument, a list has one for each run, and
            anything else holds for all.
        y : None
            Not used; scikit-learn's convention.
        mask : path, image or array (x, y, z), optional
            Brain; found in the reference where None.
        guide, lowres : path or image, optional
            T2*-weighted pair: high resolution, and low resolution (made by truncating k-space
            where None). Networks are trained on it, ``inject`` and ``ratio`` take their detail
            from it, variance methods add its static detail.
        calibration : path or image, optional
            Short BOLD run at the high resolution, whose variance enters the maps of ``sbl`` and
            its like. Its header must tell the repetition time with a unit.
        motion : path or array (T, 4, 4), optional
            Transforms that take a boldref point (RAS mm) to its point in each volume (ITK text as
            the program writes it, or matrices); estimated where None, unless ``realigned``.
        boldref : path or image, optional
            Reference that `motion` belongs to.
        guide_xfm, calibration_xfm : path or array (4, 4), optional
            Boldref point to guide point, and to calibration point; estimated where None, unless
            ``registered``.
        calibration_events : path, optional
            BIDS events of the calibration, which are then taken out of its variance.

        Returns
        -------
        SuperResolver
            Itself.

        Raises
        ------
        ImageInputError
            An argument or a parameter that cannot be used.
        """
        inputs = RunInputs(
            mask=mask,
            guide=guide,
            lowres=lowres,
            calibration=calibration,
            motion=motion,
            boldref=boldref,
            guide_xfm=guide_xfm,
            calibration_xfm=calibration_xfm,
            calibration_events=calibration_events,
        )
        if not is_several(bold):
            of_one_run(inputs, {"bold": bold})
            self._fit_one(bold, inputs)  # type: ignore[arg-type]
            return self
        of_runs = inputs_of_runs(len(bold), inputs)
        self.runs_: list[SuperResolver] = [
            clone(self)._fit_one(one, own) for one, own in zip(bold, of_runs, strict=True)
        ]
        self.__dict__.update(in_lists(self.runs_, _FITTED))
        return self

    def _fit_one(self, bold: ImageLike, inputs: RunInputs) -> SuperResolver:
        """Learn from one run."""
        self.runs_ = []
        learning = Learning(
            name=self.method,
            method=self._checked(),
            training=TrainingSettings(
                method=self.method,
                recipe=self.recipe,
                model_source="train",
                pretrained=None if self.pretrained is None else Path(self.pretrained),
                random_seed=self.random_state,
                omp_nthreads=self.n_jobs,
                device=self.device,
                max_train_minutes=self.max_train_minutes,
            ),
            factor=in_plane(self.factor),
            realigned=self.realigned,
            registered=self.registered,
        )
        self.factor_ = learning.factor
        refuse_without_guide(self.method, self.pretrained, inputs)
        with (
            working_folder() as folder,
            opened(bold, folder, "bold", any_order=True) as reader,
            Eager(folder, notes("SuperResolver.fit", self.verbose)),
        ):
            checked_series(reader, "bold")
            found = find_run(
                reader,
                inputs,
                folder,
                factor=learning.factor,
                n_dummy=self.n_dummy,
                realigned=self.realigned,
            )
            if self.realigned and inputs.motion is None:
                doubt_realigned(reader, found.motion.boldref, found.brain.bold_mask, found.n_dummy)
            self._learned = learn_run(reader, found, inputs, learning, folder)
            self._keep(folder)
            self._same = same_run_as(reader)
            middle = (found.n_dummy + reader.shape[3]) // 2
            self._example = reader.volume(middle), self.motion_[middle]
        return self

    def _checked(self) -> Method | None:
        """Return the method, None for a plain baseline, after checks of the parameters."""
        if self.data_consistency not in ("off", "enforce"):
            raise ImageInputError(
                f"data_consistency: expected 'off' or 'enforce', got {self.data_consistency!r}"
            )
        if self.device not in ("cpu", "cuda"):
            raise ImageInputError(f"device: expected 'cpu' or 'cuda', got {self.device!r}")
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise ImageInputError(
                    "device: PyTorch did not find a usable CUDA device. Use device='cpu'."
                )
        return None if self.method in PLAIN else known_method(self.method, self.recipe)

    def _keep(self, folder: Path) -> None:
        """Keep what users see of what was learned; a folder for files."""
        learned = self._learned
        head_motion = learned.found.motion
        guide_facts = None if learned.placed is None else learned.placed.guide_facts
        facts = {
            "calibration": learned.calibration_facts,
            "registration": guide_facts,
            "pair": learned.pair_facts,
        }
        self.facts_: dict[str, Facts] = {what: told for what, told in facts.items() if told}
        self.boldref_ = in_memory(head_motion.boldref)
        self.mask_img_ = in_memory(learned.found.brain.bold_mask)
        self.motion_ = head_motion.hmc_xfms
        self.n_dummy_ = learned.found.n_dummy
        self.model_, self.applied_ = None, True
        if learned.model is not None:
            (model_folder := folder / "learned_model").mkdir()
            self.model_ = load_model(learned.model.write(model_folder))
            card = self.model_.card
            self.applied_ = was_applied(card.json)
            self.facts_ |= {"held_out": card.held_out} if card.held_out else {}
        if not self.applied_:
            reason = self.facts_["held_out"]["model"]
            warnings.warn(
                f"{self.method} was not applied to this run ({reason})",
                SuperResolutionWarning,
                stacklevel=4,
            )

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` was called."""
        return hasattr(self, "boldref_")

    def __sklearn_tags__(self) -> Tags:
        """Series of images, and not tables, come in."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def transform(
        self,
        bold: ImageLike | Sequence[ImageLike],
        *,
        motion: Motion | Sequence[Motion] | None = None,
        out_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    ) -> nib.Nifti1Image | list[nib.Nifti1Image]:
        """Super-resolve a series, head motion undone.

        Parameters
        ----------
        bold : path or nibabel.Nifti1Image, or list of them
            The run of `fit`, or another one on the same grid. Maps and networks of a run (``sbl``,
            ``tv``) serve that run alone. After a list of runs in `fit`, a list of as many.
        motion : path or array (T, 4, 4), optional
            Transforms of another run's volumes, from the same reference; that of the run of `fit`
            is known.
        out_file : path, optional
            Where to write (.nii or .nii.gz), volume by volume; memory does not grow with the
            length of the run then.

        Returns
        -------
        nibabel.Nifti1Image, or list of them
            Series (X, Y, Z, t) in signal units on the high-resolution grid of the reference,
            float32; of `out_file` where that is given, else in memory.

        Raises
        ------
        ImageInputError
            Another grid, or another run where the method belongs to one.
        """
        check_is_fitted(self)
        if is_several(bold):
            return self._transform_each(bold, motion, out_file)
        if self.runs_:
            raise ImageInputError(
                f"bold: `fit` was called with a list of {len(self.runs_)} runs, but "
                f"`transform` with a single run. Pass a list of {len(self.runs_)} runs."
            )
        of_one_run(RunInputs(), {"bold": bold, "motion": motion, "out_file": out_file})
        return self._transform_one(bold, motion, out_file)  # type: ignore[arg-type]

    def _transform_each(
        self, runs: Sequence[ImageLike], motion: object, out_file: object
    ) -> list[nib.Nifti1Image]:
        """Transform several runs, each by its own estimator, or all by the only one."""
        if out_file is not None and not is_several(out_file):
            raise ImageInputError(
                "out_file: a single output file was passed for several runs. Pass a list with "
                "one file per run."
            )
        estimators = self.runs_ or [self] * len(runs)
        made = {"SuperResolver.fit": estimators, "motion": motion, "out_file": out_file}
        return [
            each._transform_one(one, own["motion"], own["out_file"])
            for one, own, each in zip(runs, each_run(len(runs), made), estimators, strict=False)
        ]

    def _transform_one(
        self, bold: ImageLike, motion: Motion | None, out_file: str | os.PathLike[str] | None
    ) -> nib.Nifti1Image:
        """Super-resolve one run; parameters and result are those of `SuperResolver.transform`."""
        say = notes("SuperResolver.transform", self.verbose)
        with working_folder() as folder, opened(bold, folder, "bold") as reader:
            poses = self._poses(reader, motion)
            target = None if out_file is None else Path(out_file)
            if target is not None and target.resolve() == reader.path.resolve():
                raise ImageInputError(
                    f"out_file: {target} is the input series, which would be overwritten. "
                    "Choose another file."
                )
            made = self._made(reader, poses, folder, say)
            if target is None:
                fine = nib.Nifti1Image.from_filename(made)
                data = np.asarray(fine.dataobj, dtype=np.float32)
                return nib.Nifti1Image(
                    data[..., 0] if reader.ndim == 3 else data, fine.affine, fine.header
                )
            if target.suffix == ".gz":
                compress_series(made, target)
            else:
                link_whole(made, target)
        return nib.Nifti1Image.from_filename(target)

    def _made(
        self,
        reader: SeriesReader,
        poses: Array | None,
        folder: Path,
        say: Callable[[str], object] = str,
        name: str = "",
    ) -> Path:
        """The file of a series of the run; its head motion is estimated where that is None.

        `name` is that of an interpolation in the place of the method.
        """
        learned = self._learned
        found = replace(learned.found, n_dummy=0)  # of another run, too, whose first volumes count
        with Eager(folder, say):
            if poses is None:
                head_motion = estimate_motion(reader, 0, found.motion.boldref)
            else:
                head_motion = replace(found.motion, hmc_xfms=poses)
            made = resolve_series(
                name or self.method,
                fitted_run(reader, replace(found, motion=head_motion)),
                factor=self.factor_,
                inference=Inference(
                    data_consistency=self.data_consistency,
                    precision=self.precision,
                    omp_nthreads=self.n_jobs,
                    device=self.device,
                ),
                model_file=None if name or learned.model is None else learned.model.write(folder),
                guide=None if name else learned.guide_in(folder),
            )
            series = made.series
            if series.plain:
                return series.path
            copy_series(series.path, folder / "plain.nii")
        return folder / "plain.nii"

    def _poses(self, reader: SeriesReader, motion: Motion | None) -> Array | None:
        """Head motion of a series; None of another run than that of `fit` to be estimated."""
        check_is_fitted(self)
        boldref = self._learned.found.motion.boldref
        shape = boldref.data.shape
        if reader.shape[:3] != shape or not np.allclose(reader.affine, boldref.affine, atol=1e-3):
            raise ImageInputError(
                f"bold: the series is on a {reader.shape[:3]} grid, but the run passed "
                f"to fit is on a {shape} grid. Call fit with this run first."
            )
        same = same_run_as(reader) == self._same
        if not same and self.method not in PLAIN and get_method(self.method).of_the_run:
            raise ImageInputError(
                f"bold: {self.method} was fitted to another run and can only be applied to "
                "that run. Call fit with this run first."
            )
        if motion is not None:
            return poses_of(motion, reader.shape[3])
        if same:
            return self._learned.found.motion.hmc_xfms
        return still(reader.shape[3]) if self.realigned else None

    def fit_transform(
        self,
        bold: ImageLike | Sequence[ImageLike],
        y: None = None,
        *,
        out_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        **fit_params: object,
    ) -> nib.Nifti1Image | list[nib.Nifti1Image]:
        """`fit`, then `transform` of the same run or runs; parameters are those of the two.

        Parameters
        ----------
        bold : ImageLike | Sequence[ImageLike]
            Series as acquired (4D), or list of several runs.
        y : None, optional
            Not used; it is scikit-learn's convention.
        out_file : str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None, optional
            Where to write (.nii or .nii.gz), one for each run; None: in memory.
        **fit_params : object
            Further arguments of `fit`.

        Returns
        -------
        nib.Nifti1Image | list[nib.Nifti1Image]
            Super-resolved series (4D, float32), or a list of them.
        """
        return self.fit(bold, y, **fit_params).transform(bold, out_file=out_file)  # type: ignore[arg-type]

    def generate_report(self) -> HtmlReport:
        """Return a self-contained page on the fitted estimator.

        Use `save_as_html` or `open_in_browser`, or let a notebook show it.

        Returns
        -------
        HtmlReport
            Whether the method was applied, a slice beside the B-spline's, where the run
            fluctuates, what was measured; run by run where `fit` was given a list.
        """
        from bids_sr.api.html_report import page

        check_is_fitted(self)
        runs = self.runs_ or [self]
        doubt = not all(run.applied_ for run in runs)
        return page(
            f"SuperResolver: {self.method}", [run._page_parts() for run in runs], doubt=doubt
        )

    def _page_parts(self) -> tuple[str, list[Markup]]:
        """Lead and parts of the page of one run."""
        from bids_sr.api.html_report import resolved

        volume, pose = self._example
        boldref = self._learned.found.motion.boldref
        brain = self._learned.found.brain.bold_mask_hr
        shown = {"acquired": Volume(np.asarray(volume, np.float32), boldref.affine)}
        with working_folder() as folder:
            save_image(volume, boldref.affine, folder / "example.nii")
            for name in dict.fromkeys(("bspline", self.method)):
                (folder / name).mkdir()
                other = "" if name == self.method else name
                with SeriesReader(folder / "example.nii") as reader:
                    made = self._made(reader, pose[None], folder / name, name=other)
                with SeriesReader(made) as fine:
                    shown[name] = Volume(fine.volume(0), fine.affine)
        return resolved(
            self.method,
            shown,
            brain,
            self._learned.weight,
            self.facts_,
            repr(self),
            reason="" if self.applied_ else str(self.facts_["held_out"]["model"]),
        )

    report = generate_report
