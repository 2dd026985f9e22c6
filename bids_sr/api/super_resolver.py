"""`SuperResolver`: scikit-learn estimator that super-resolves BOLD series."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from bids_sr.api.effect_error import iterate_effect_sds, load_acquired_effects
from bids_sr.api.guide import check_guide
from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    SuperResolutionWarning,
    check_is_series,
    compute_fingerprint,
    load_mask,
    load_poses,
    open_series,
    parse_factor,
    to_nibabel,
    working_folder,
)
from bids_sr.api.learned_run import FitSettings, check_method, learn_run
from bids_sr.api.progress import make_step_printer
from bids_sr.api.run_basics import (
    fit_basics,
    make_identity_transforms,
    to_fitted_run,
    warn_if_not_realigned,
)
from bids_sr.api.run_inputs import RunInputs
from bids_sr.api.series_outputs import check_target, to_series_image
from bids_sr.api.several_runs import (
    check_single_run,
    is_several,
    split_arguments,
)
from bids_sr.engine.artifacts import Facts
from bids_sr.engine.flow import Eager
from bids_sr.glm.region_means import weigh_means
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.series import get_need
from bids_sr.sr.inference.apply_to_series import Consistency
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import explain_not_applied, was_applied
from bids_sr.sr.models.model import load_model
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.steps.error_samples import ErrorSamples
from bids_sr.sr.steps.super_resolution import Inference, SuperResolvedSeries
from bids_sr.workflows.fit_run import FittedRun, fit_motion
from bids_sr.workflows.make_series import compute_series
from bids_sr.workflows.model_run import resample_acquired
from bids_sr.workflows.series_requests import request_series

_FITTED_ATTRIBUTES = (
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
    """Super-resolve a BOLD series in plane.

    The estimator processes images in memory or files with the same functions as ``bids-sr``: head
    motion is estimated, and each volume is upsampled on its acquired grid and interpolated once to
    the high-resolution grid of the boldref. Slice timing is not corrected.

    Parameters
    ----------
    method : str, default="sbl"
        Method (``sbl``, ``srgan``, ...) or baseline (``bspline``, ``zerofill``, ``sdmod``,
        ``inject``, ``ratio``, ...). The error for other names lists all names.
    factor : float or tuple of three, default=2
        Acquired over high-resolution voxel size, in plane or by axis.
    recipe : {"fast", "paper"}, default="fast"
        Training recipe of the method. VGG-19 features are not used: with "paper", squared error
        replaces them.
    dummy_scans : int, optional
        Number of non-steady-state volumes at the start; these volumes are super-resolved, but not
        used for estimation or training. If None, the number is detected.
    realigned : bool, default=False
        Whether head motion was already corrected. Motion is then not estimated, and three volumes
        are checked for remaining motion.
    registered : bool, default=False
        Whether positions of guide and calibration run are taken from their headers. Otherwise,
        they are registered to the boldref.
    pretrained : path, optional
        Weights that replace training, with the model card in the same folder.
    data_consistency : {"off", "enforce"}, default="off"
        "enforce" restores the acquired data in their band of k-space.
    random_state : int, default=0
        Seed of random numbers.
    n_jobs : int, default=1
        Number of threads of torch and of matrix products; no processes are started.
    device : {"cpu", "cuda"}, default="cpu"
        Device for training and application of networks.
    max_train_minutes : float, optional
        Time limit of training; a network that reaches the limit is not applied.
    verbose : int, default=0
        If 1, each step of `fit` and `transform` is printed with the elapsed time.

    Attributes
    ----------
    runs_ : list of SuperResolver
        Fitted estimator of each run if `fit` was called with a list; all attributes below are then
        lists.
    boldref_, mask_img_ : nibabel.Nifti1Image
        Boldref of the run and brain mask, on the acquired grid.
    motion_ : ndarray (T, 4, 4)
        Transforms of boldref points to points of each volume (RAS mm).
    n_dummy_ : int
        Number of non-steady-state volumes.
    factor_ : tuple of three floats
        Acquired over high-resolution voxel size by axis.
    model_ : object or None
        Recipe, card and weights; None for baselines.
    applied_ : bool
        False if the method failed its self-test in the run, or if its training was stopped early,
        and it fell back to zero filling.
    facts_ : dict
        Facts on the self-test, registrations, and calibration run.

    See Also
    --------
    bids_sr.recovered_detail : tests which contrasts have detail that the run supports.

    Examples
    --------
    >>> import nibabel as nib, numpy as np
    >>> from bids_sr import SuperResolver
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(100, 5, (16, 16, 4, 12)).astype("float32")
    >>> bold = nib.Nifti1Image(values, np.diag([3, 3, 3, 1]))
    >>> resolver = SuperResolver("zerofill", factor=2, dummy_scans=0)
    >>> no_motion = np.tile(np.eye(4), (12, 1, 1))
    >>> image = resolver.fit_transform(bold, mask_img=np.ones((16, 16, 4)), motion=no_motion)
    >>> image.shape, [float(size) for size in image.header.get_zooms()[:3]]
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
    dummy_scans: int | None = None
    realigned: bool = False
    registered: bool = False
    pretrained: str | os.PathLike[str] | None = None
    data_consistency: Consistency = "off"
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
        mask_img: MaskLike | Sequence[MaskLike] | None = None,
        guide: ImageLike | Sequence[ImageLike] | None = None,
        lowres: ImageLike | Sequence[ImageLike] | None = None,
        calibration: ImageLike | Sequence[ImageLike] | None = None,
        motion: Motion | Sequence[Motion] | None = None,
        boldref: ImageLike | Sequence[ImageLike] | None = None,
        guide_xfm: Motion | Sequence[Motion] | None = None,
        calibration_xfm: Motion | Sequence[Motion] | None = None,
        calibration_events: str | Path | Sequence[str | Path] | None = None,
    ) -> SuperResolver:
        """Estimate or train what the method requires of a run.

        Parameters
        ----------
        bold : path or nibabel.Nifti1Image, or list of them
            Series (x, y, z, t) on its acquired grid, after slice-timing correction if desired.
            Files are read volume by volume. Runs of a list are fitted separately, each with its
            own boldref; for every other argument, a list has one value per run, and other values
            apply to all runs.
        y : None
            Not used; scikit-learn's convention.
        mask_img : path, image or array (x, y, z), optional
            Mask of the brain, on the grid of the series. If None, the brain is segmented in the
            boldref.
        guide, lowres : path or image, optional
            High- and low-resolution image of the T2*-weighted pair. If `lowres` is None, it is
            computed by truncating k-space. Networks are trained on the pair, ``inject`` and
            ``ratio`` use its detail, and variance methods add its static detail.
        calibration : path or image, optional
            Short BOLD run at the high resolution, whose fluctuations enter the prior SD maps of
            ``sbl`` and similar methods. Its header must specify the repetition time with a unit.
        motion : path or array (T, 4, 4), optional
            Transforms of boldref points to points of each volume (RAS mm), as ITK text of the
            program or as matrices. If None, they are estimated, unless ``realigned``.
        boldref : path or image, optional
            Boldref of these transforms.
        guide_xfm, calibration_xfm : path or array (4, 4), optional
            Transforms of boldref points to guide points and to calibration points. If None, they
            are estimated, unless ``registered``.
        calibration_events : path, optional
            BIDS events of the calibration run, whose effects are regressed out.

        Returns
        -------
        SuperResolver
            The fitted estimator.

        Raises
        ------
        ImageInputError
            If an argument or parameter is invalid.
        """
        arguments: dict[str, Any] = {
            "mask_img": mask_img,
            "guide": guide,
            "lowres": lowres,
            "calibration": calibration,
            "motion": motion,
            "boldref": boldref,
            "guide_xfm": guide_xfm,
            "calibration_xfm": calibration_xfm,
            "calibration_events": calibration_events,
        }
        if not is_several(bold):
            check_single_run({"bold": bold, **arguments})
            self._fit_one(bold, RunInputs(**arguments))  # type: ignore[arg-type]
            return self
        run_arguments = split_arguments(len(bold), arguments)
        self.runs_: list[SuperResolver] = [
            clone(self)._fit_one(run, RunInputs(**values))
            for run, values in zip(bold, run_arguments, strict=True)
        ]
        for name in _FITTED_ATTRIBUTES:
            setattr(self, name, [getattr(run, name) for run in self.runs_])
        return self

    def _fit_one(self, bold: ImageLike, inputs: RunInputs) -> SuperResolver:
        """Fit one run."""
        self.runs_ = []
        self._check_parameters(inputs)
        fit_settings = self._make_fit_settings(has_guide=inputs.guide is not None)
        self.factor_ = fit_settings.factor
        with (
            working_folder() as folder,
            open_series(bold, folder, any_order=True) as reader,
            Eager(folder, make_step_printer("SuperResolver.fit", self.verbose)),
        ):
            check_is_series(reader, "bold")
            run_basics = fit_basics(
                reader,
                inputs,
                folder,
                factor=fit_settings.factor,
                dummy_scans=self.dummy_scans,
                realigned=self.realigned,
            )
            if self.realigned and inputs.motion is None:
                warn_if_not_realigned(
                    reader,
                    run_basics.motion.boldref,
                    run_basics.brain.bold_mask,
                    run_basics.n_dummy,
                )
            self._learned = learn_run(reader, run_basics, inputs, fit_settings, folder)
            self._set_attributes(folder)
            self._run_fingerprint = compute_fingerprint(reader)
            middle = (run_basics.n_dummy + reader.shape[3]) // 2
            self._example_volume = reader.volume(middle), self.motion_[middle]
        return self

    def _check_parameters(self, inputs: RunInputs) -> None:
        """Raise ImageInputError if a parameter is invalid, or an image of the method missing."""
        if self.data_consistency not in ("off", "enforce"):
            raise ImageInputError(
                f"expected 'off' or 'enforce', got {self.data_consistency!r}",
                argument="data_consistency",
            )
        if self.device not in ("cpu", "cuda"):
            raise ImageInputError(
                f"expected 'cpu' or 'cuda', got {self.device!r}", argument="device"
            )
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise ImageInputError(
                    "PyTorch did not find a usable CUDA device", "Use device='cpu'.", "device"
                )
        check_method(self.method, self.recipe)
        parse_factor(self.factor)
        check_guide(self.method, self.pretrained, inputs)

    def _make_fit_settings(self, *, has_guide: bool) -> FitSettings:
        """Return the settings of the fit to a run."""
        return FitSettings(
            request=request_series(self.method, has_pair=has_guide, uses_guide=has_guide),
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
            factor=parse_factor(self.factor),
            realigned=self.realigned,
            registered=self.registered,
        )

    def _set_attributes(self, folder: Path) -> None:
        """Set the public attributes of the fit; `folder` is for files."""
        learned_run = self._learned
        head_motion = learned_run.basics.motion
        registered_guide = learned_run.registered_guide
        facts_by_topic = {
            "calibration": learned_run.calibration_facts,
            "registration": None if registered_guide is None else registered_guide.guide_facts,
            "pair": learned_run.pair_facts,
        }
        self.facts_: dict[str, Facts] = {
            topic: facts for topic, facts in facts_by_topic.items() if facts
        }
        self.boldref_ = to_nibabel(head_motion.boldref)
        self.mask_img_ = to_nibabel(learned_run.basics.brain.bold_mask)
        self.motion_ = head_motion.hmc_xfms
        self.n_dummy_ = learned_run.basics.n_dummy
        self.model_, self.applied_ = None, True
        if learned_run.model is not None:
            (model_folder := folder / "learned_model").mkdir()
            self.model_ = load_model(learned_run.model.write(model_folder))
            card = self.model_.card
            self._reason_not_applied = explain_not_applied(card.json)
            self.applied_ = was_applied(card.json)
            self.facts_ |= {"held_out": card.held_out} if card.held_out else {}
        if not self.applied_:
            warning = SuperResolutionWarning(
                f"{self.method} was not applied to this run ({self._reason_not_applied})"
            )
            warnings.warn(warning, stacklevel=4)

    def __sklearn_is_fitted__(self) -> bool:
        """Return True if `fit` was called."""
        return hasattr(self, "boldref_")

    def __sklearn_tags__(self) -> Tags:
        """Return scikit-learn tags: inputs are images instead of tables."""
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
        """Super-resolve a series with motion correction.

        Parameters
        ----------
        bold : path or nibabel.Nifti1Image, or list of them
            Run of `fit`, or another run on the same grid. Maps and networks of a run (``sbl``,
            ``tv``) can only be applied to this run. If `fit` was called with a list of runs, a
            list of the same length.
        motion : path or array (T, 4, 4), optional
            Transforms of the boldref to the volumes of another run; the motion of the run of `fit`
            is known.
        out_file : path, optional
            Output file (.nii or .nii.gz), which is written volume by volume, so that memory does
            not depend on the length of the run.

        Returns
        -------
        nibabel.Nifti1Image, or list of them
            Series (X, Y, Z, t) in signal units on the high-resolution grid of the boldref,
            float32, from `out_file` or in memory.

        Raises
        ------
        ImageInputError
            If the grid differs, or if the method can only be applied to the run of `fit`.
        """
        check_is_fitted(self)
        if is_several(bold):
            return self._transform_each(bold, motion, out_file)
        if self.runs_:
            raise ImageInputError(
                f"`fit` was called with a list of {len(self.runs_)} runs, but `transform` with a "
                "single run",
                f"Pass a list of {len(self.runs_)} runs.",
                "bold",
            )
        check_single_run({"bold": bold, "motion": motion, "out_file": out_file})
        return self._transform_one(bold, motion, out_file)  # type: ignore[arg-type]

    def _transform_each(
        self, runs: Sequence[ImageLike], motion: object, out_file: object
    ) -> list[nib.Nifti1Image]:
        """Transform several runs, each with its own estimator, or all with the same estimator."""
        if out_file is not None and not is_several(out_file):
            raise ImageInputError(
                "a single output file was passed for several runs",
                "Pass a list with one file per run.",
                "out_file",
            )
        estimators = self.runs_ or [self] * len(runs)
        run_arguments = {"SuperResolver.fit": estimators, "motion": motion, "out_file": out_file}
        return [
            estimator._transform_one(bold, run_values["motion"], run_values["out_file"])
            for bold, run_values, estimator in zip(
                runs, split_arguments(len(runs), run_arguments), estimators, strict=False
            )
        ]

    def _transform_one(
        self, bold: ImageLike, motion: Motion | None, out_file: str | os.PathLike[str] | None
    ) -> nib.Nifti1Image:
        """Super-resolve one run; for parameters and result see `transform`."""
        print_line = make_step_printer("SuperResolver.transform", self.verbose)
        with working_folder() as folder, open_series(bold, folder) as reader:
            poses = self._find_poses(reader, motion)
            target = check_target(out_file, reader)
            series = self._super_resolve(reader, poses, folder, print_line).series
            return to_series_image(series.path, target, is_volume=reader.ndim == 3)

    def correct_motion(
        self, bold: ImageLike, *, out_file: str | os.PathLike[str] | None = None
    ) -> nib.Nifti1Image:
        """Correct head motion of the run of `fit` on its acquired grid.

        Parameters
        ----------
        bold : path or nibabel.Nifti1Image
            Run of `fit`.
        out_file : path, optional
            Output file (.nii or .nii.gz). If None, the result is in memory.

        Returns
        -------
        nibabel.Nifti1Image
            Series (x, y, z, t) in signal units, float32. Effects in this series are required for
            `effect_sd`.
        """
        self._check_is_single("correct_motion")
        print_line = make_step_printer("SuperResolver.correct_motion", self.verbose)
        with (
            working_folder() as folder,
            open_series(bold, folder, any_order=True) as reader,
            Eager(folder, print_line),
        ):
            poses = self._find_poses(reader, None)
            target = check_target(out_file, reader)
            preproc = resample_acquired(self._align(reader, poses))
            return to_series_image(preproc.path, target, is_volume=False)

    def _find_poses(self, reader: SeriesReader, motion: Motion | None) -> Array | None:
        """Return the head motion of a series; None if it has to be estimated.

        The motion is known for the run of `fit`.
        """
        check_is_fitted(self)
        boldref = self._learned.basics.motion.boldref
        shape = boldref.data.shape
        if reader.shape[:3] != shape or not np.allclose(reader.affine, boldref.affine, atol=1e-3):
            raise ImageInputError(
                f"the series is on a {reader.shape[:3]} grid, but the run passed to fit is on a "
                f"{shape} grid",
                "Call fit with this run first.",
                "bold",
            )
        same_run = compute_fingerprint(reader) == self._run_fingerprint
        if (
            not same_run
            and get_need(self.method) not in ("volume", "pair")
            and get_method(self.method).is_run_specific
        ):
            raise ImageInputError(
                f"{self.method} was fitted to another run and can only be applied to that run",
                "Call fit with this run first.",
                "bold",
            )
        if motion is not None:
            return load_poses(motion, reader.shape[3])
        if same_run:
            return self._learned.basics.motion.hmc_xfms
        return make_identity_transforms(reader.shape[3]) if self.realigned else None

    def effect_sd(
        self,
        effect: ImageLike | Sequence[ImageLike],
        variance: ImageLike | Sequence[ImageLike],
        *,
        smoothing_fwhm: float | None = None,
    ) -> nib.Nifti1Image | list[nib.Nifti1Image]:
        """Return the standard deviation of the reconstruction error of an effect.

        The reconstruction error is the same in all blocks, so it is not in the residuals of a
        linear model. It is estimated from samples from the prior of the run, scaled by the local
        power of the acquired effect above noise. Noise of the effect is not included.

        Parameters
        ----------
        effect, variance : path or nibabel.Nifti1Image, or list of them
            Unsmoothed effect in the motion-corrected acquired series (see `correct_motion`), and
            its variance in the linear model (x, y, z), such as ``effect_size`` and
            ``effect_variance`` of nilearn. For a list of contrasts, samples are drawn once.
        smoothing_fwhm : float, optional
            FWHM (mm) of the smoothing of the super-resolved effect, such as the `smoothing_fwhm`
            of its linear model in nilearn. If None, the effect is not smoothed.

        Returns
        -------
        nibabel.Nifti1Image, or list of them
            Standard deviation in the unit of the effect (X, Y, Z) on the high-resolution grid, 0
            outside the brain, as ``stat-sd`` of ``bids-sr``.

        Raises
        ------
        ImageInputError
            If the method has no prior or was not applied, or if a map is not on the acquired grid.
        """
        self._check_has_error("effect_sd")
        effects = effect if is_several(effect) else [effect]
        variances = variance if is_several(variance) else [variance]
        with working_folder() as folder:
            acquired_effects = load_acquired_effects(
                effects,  # type: ignore[arg-type]
                variances,  # type: ignore[arg-type]
                self._learned.basics.brain.bold_mask,
                folder,
            )
            with self._draw_error_samples(folder) as samples:
                sds = list(iterate_effect_sds(samples, acquired_effects, smoothing_fwhm or 0.0))
        return sds if is_several(effect) else sds[0]

    def region_error(
        self,
        region: MaskLike,
        effect: ImageLike,
        variance: ImageLike,
        *,
        smoothing_fwhm: float | None = None,
    ) -> float:
        """Return the standard deviation of the reconstruction error of a region's mean effect.

        The errors of neighboring voxels are correlated, and most of them cancel in a mean, so that
        the result does not follow from the map of `effect_sd`. Noise of the mean is not included;
        it follows from a linear model of the mean time series.

        Parameters
        ----------
        region : path, image or array (X, Y, Z)
            Region on the high-resolution grid. Only voxels in the brain are used.
        effect, variance : path or nibabel.Nifti1Image
            Unsmoothed effect in the motion-corrected acquired series (see `correct_motion`), and
            its variance in the linear model (x, y, z).
        smoothing_fwhm : float, optional
            FWHM (mm) of the smoothing of the super-resolved effect, such as the `smoothing_fwhm`
            of its linear model in nilearn. If None, the effect is not smoothed.

        Returns
        -------
        float
            Standard deviation in the unit of the effect, as ``error_sd`` in the table of regions.

        Raises
        ------
        ImageInputError
            If the method has no prior or was not applied, or if an image is on another grid.
        """
        self._check_has_error("region_error")
        brain = self._learned.basics.brain
        with working_folder() as folder:
            region_mask = load_mask(region, brain.bold_mask_hr, folder, "region")
            in_brain = region_mask.data & brain.bold_mask_hr.data
            if not in_brain.any():
                raise ImageInputError("no voxel is in the brain", "Pass another region.", "region")
            (acquired,) = load_acquired_effects([effect], [variance], brain.bold_mask, folder)
            with self._draw_error_samples(folder) as samples:
                scale = samples.compute_scale(
                    acquired.effect.data,
                    acquired.variance.data,
                    samples.compute_acquired_power(0.0),
                )
                weights = weigh_means(
                    [(np.flatnonzero(in_brain.ravel(order="F")), smoothing_fwhm or 0.0)],
                    in_brain.shape,
                    brain.bold_mask_hr.zooms.tolist(),
                )
                return float(samples.compute_mean_sds(weights, [scale])[0, 0])

    def _check_has_error(self, method: str) -> None:
        """Raise an error unless the reconstruction error of the fitted run is known."""
        self._check_is_single(method)
        if not self._learned.has_prior or not self.applied_:
            reason = "was not applied to this run" if self._learned.has_prior else "has no prior"
            raise ImageInputError(
                f"{self.method} {reason}, so the reconstruction error is unknown",
                "Use a method such as sbl.",
                "method",
            )

    def _check_is_single(self, method: str) -> None:
        """Raise an error if the estimator is not fitted, or was fitted to a list of runs."""
        check_is_fitted(self)
        if self.runs_:
            raise ImageInputError(
                f"`fit` was called with a list of {len(self.runs_)} runs",
                f"Call {method} of each estimator in runs_.",
                method,
            )

    @contextmanager
    def _draw_error_samples(self, folder: Path) -> Iterator[ErrorSamples]:
        """Yield samples of the reconstruction error of the run, in files in a folder.

        The samples do not depend on the volumes, so that a single volume is super-resolved.
        """
        brain = self._learned.basics.brain
        volume, pose = self._example_volume
        (sample_folder := folder / "samples").mkdir()
        example_file = sample_folder / "example.nii"
        save_image(volume, self._learned.basics.motion.boldref.affine, example_file)
        with SeriesReader(example_file) as reader:
            super_resolved = self._super_resolve(
                reader, pose[None], sample_folder, with_error_samples=True
            )
        assert super_resolved.error_draws is not None
        assert super_resolved.acquired_draws is not None
        with (
            SeriesReader(super_resolved.error_draws.path) as errors,
            SeriesReader(super_resolved.acquired_draws.path) as acquired,
        ):
            yield ErrorSamples(
                errors=errors,
                acquired=acquired,
                brain=brain.bold_mask,
                brain_hr=brain.bold_mask_hr,
            )

    def fit_transform(
        self,
        bold: ImageLike | Sequence[ImageLike],
        y: None = None,
        *,
        out_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        **fit_params: object,
    ) -> nib.Nifti1Image | list[nib.Nifti1Image]:
        """Call `fit`, and then `transform` with the same runs.

        Parameters
        ----------
        bold : ImageLike | Sequence[ImageLike]
            Acquired series (4D), or list of several runs.
        y : None, optional
            Not used; it is scikit-learn's convention.
        out_file : str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None, optional
            Output file (.nii or .nii.gz), one per run. If None, results are in memory.
        **fit_params : object
            Further arguments of `fit`.

        Returns
        -------
        nib.Nifti1Image | list[nib.Nifti1Image]
            Super-resolved series (4D, float32), or a list of them.
        """
        return self.fit(bold, y, **fit_params).transform(bold, out_file=out_file)  # type: ignore[arg-type]

    def _super_resolve(
        self,
        reader: SeriesReader,
        poses: Array | None,
        folder: Path,
        print_line: Callable[[str], object] = str,
        *,
        with_error_samples: bool = False,
    ) -> SuperResolvedSeries:
        """Return a super-resolved series, in files in a folder.

        `poses` are transforms of the boldref to the volumes (T, 4, 4); None to estimate head
        motion. `print_line` prints the current step. `with_error_samples` is whether samples of
        the reconstruction error are drawn.
        """
        learned_run = self._learned
        with Eager(folder, print_line):
            guide = learned_run.write_guide(folder)
            return compute_series(
                replace(self._align(reader, poses), guide=guide),
                request_series(self.method, has_pair=False, uses_guide=guide is not None),
                None if learned_run.model is None else learned_run.model.write(folder),
                inference=Inference(
                    data_consistency=self.data_consistency,
                    omp_nthreads=self.n_jobs,
                    device=self.device,
                    random_seed=self.random_state,
                    with_error_samples=with_error_samples,
                ),
            )

    def _align(self, reader: SeriesReader, poses: Array | None) -> FittedRun:
        """Return a run with its head motion, which is estimated if `poses` is None.

        All volumes are processed, and another run may have other dummies and outliers.
        """
        run_basics = replace(self._learned.basics, n_dummy=0, outliers=None)
        if poses is None:
            head_motion = fit_motion(reader, 0, run_basics.motion.boldref)
        else:
            head_motion = replace(run_basics.motion, hmc_xfms=poses)
        return to_fitted_run(reader, replace(run_basics, motion=head_motion))
