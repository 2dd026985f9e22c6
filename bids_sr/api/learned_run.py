"""Requirements of a series: pair, guide, calibration run, and trained model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bids_sr.api.guide import (
    RegisteredGuide,
    find_guide,
)
from bids_sr.api.image_inputs import (
    ImageInputError,
    SuperResolutionWarning,
    check_file,
    check_is_series,
    check_slice_axis,
    header_tr,
    load_transform,
    series_file,
    volume_file,
)
from bids_sr.api.run_basics import (
    RunBasics,
    make_identity_transforms,
    to_fitted_run,
    warn_if_not_realigned,
)
from bids_sr.api.run_inputs import RunInputs
from bids_sr.api.task_inputs import read_levels
from bids_sr.engine.artifacts import Facts, Image
from bids_sr.engine.flow import subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.series import MODEL_FREE_BASELINES, get_need
from bids_sr.preproc.steps import bold_reference, registration
from bids_sr.sr.method import UnknownMethod, get_method, get_recipe
from bids_sr.sr.models.card import card_path
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.steps.super_resolution import Guide
from bids_sr.sr.steps.training import VarianceModel
from bids_sr.workflows.fit_run import (
    FittedCalibration,
    find_steady_state,
    fit_calibration,
    fit_motion,
    reuse_motion,
)
from bids_sr.workflows.make_series import make_model
from bids_sr.workflows.model_run import resample_acquired
from bids_sr.workflows.pair import PairFiles, register_scans
from bids_sr.workflows.run_plan import SeriesFile
from bids_sr.workflows.series_requests import SeriesRequest


@frozen
class FileContents:
    """File and related files in memory, because estimators outlive their working folder."""

    name: str
    contents: Mapping[str, bytes]

    @classmethod
    def read(cls, file: Path, *sidecars: Path) -> FileContents:
        """Return the contents of a file and of other files in its folder."""
        return cls(
            name=file.name, contents={path.name: path.read_bytes() for path in (file, *sidecars)}
        )

    def write(self, folder: Path) -> Path:
        """Write the files to a folder, and return the path of the first file."""
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)
        return folder / self.name


@frozen
class LearnedRun:
    """Results of an estimator's fit to a run.

    `model` contains weights or prior SD maps with their model card; None for a baseline without a
    model. `highres` is the high-resolution image of the pair, if its detail is used, and
    `registered_guide` is this image in the frame of the run; its path is only valid during the
    fit. `weight` is the prior SD map, if the method estimates it. `calibration` is None if the
    calibration run is missing or not used by the method. `has_prior` is whether the method has a
    prior, as tests of its detail and samples of its error require.
    """

    basics: RunBasics
    model: FileContents | None = None
    highres: FileContents | None = None
    registered_guide: RegisteredGuide | None = None
    weight: Image | None = None
    calibration: FittedCalibration | None = None
    pair_facts: Facts | None = None
    has_prior: bool = False
    random_seed: int = 0

    @property
    def calibration_facts(self) -> Facts | None:
        """Facts on the calibration run; None if there is no calibration run."""
        return None if self.calibration is None else self.calibration.calibration_facts

    def write_guide(self, folder: Path) -> Guide | None:
        """Return the guide with its file written to a folder; None if there is no guide."""
        if self.highres is None or self.registered_guide is None:
            return None
        return replace(self.registered_guide.guide, highres_file=self.highres.write(folder))


@frozen
class FitSettings:
    """Settings of an estimator's fit; see `bids_sr.SuperResolver`.

    `factor` is the acquired over high-resolution voxel size by axis. `realigned` is whether head
    motion was already corrected, and `registered` whether positions of images are taken from
    headers.
    """

    request: SeriesRequest
    training: TrainingSettings
    factor: Factor
    realigned: bool
    registered: bool


def check_method(name: str, recipe: str) -> None:
    """Raise ImageInputError, which lists all names, unless a method or baseline has this name."""
    if get_need(name) in ("volume", "pair"):
        return
    try:
        method = get_method(name)
        if method.variance is None:
            get_recipe(method, recipe)
    except UnknownMethod as error:
        baselines = f"Available baselines: {', '.join(MODEL_FREE_BASELINES)}."
        raise ImageInputError(
            error.reason, f"{error.remedy} {baselines}".strip(), "method"
        ) from None


def learn_run(
    reader: SeriesReader,
    run_basics: RunBasics,
    inputs: RunInputs,
    fit_settings: FitSettings,
    folder: Path,
) -> LearnedRun:
    """Compute the requirements of a series: guide, calibration, and trained or existing model.

    Files are written to `folder`.
    """
    request, random_seed = fit_settings.request, fit_settings.training.random_seed
    uses_pair = request.learned_from == "pair" or (
        request.uses_guide and inputs.lowres is not None
    )
    pair = guide = None
    if uses_pair or request.uses_guide:
        assert inputs.guide is not None
        pair = PairFiles(
            highres_file=volume_file(inputs.guide, folder, "guide"),
            lowres_file=volume_file(inputs.lowres, folder, "lowres")
            if uses_pair and inputs.lowres is not None
            else None,
            factor=fit_settings.factor,
            is_registered=fit_settings.registered,
        )
        guide = find_guide(pair, inputs) if request.uses_guide else None
    calibration = None
    method = request.method if request.learned_from == "run" else None
    if method is not None and method.uses_calibration and inputs.calibration is not None:
        calibration = _fit_calibration(run_basics, inputs, fit_settings, folder)
    registered_pair = register_scans(pair, random_seed) if pair is not None and uses_pair else None
    registered_guide = None
    if guide is not None:
        registered_guide = RegisteredGuide(guide=guide)
    elif pair is not None and request.uses_guide:
        # the search starts from the position of the pair, or from the headers without a pair
        xfm, _, facts = registration.register_to_pair(
            run_basics.motion.boldref,
            pair.highres_file,
            None if registered_pair is None else registered_pair.highres2lowres_xfm,
            factor=pair.factor,
            random_seed=random_seed,
        )
        guide = Guide(highres_file=pair.highres_file, highres2boldref_xfm=xfm)
        registered_guide = RegisteredGuide(guide=guide, guide_facts=facts)
    model = weight = None
    if request.method is not None:
        fitted_run = to_fitted_run(reader, run_basics, calibration)
        preproc = resample_acquired(fitted_run) if request.learned_from == "run" else None
        trained_model = make_model(
            fitted_run, preproc, request, fit_settings.training, registered_pair
        )
        model = FileContents.read(trained_model.model_file, card_path(trained_model.model_file))
        if isinstance(trained_model, VarianceModel):
            weight = trained_model.weight
    highres = None
    if registered_guide is not None:
        highres = FileContents.read(registered_guide.guide.highres_file)
    return LearnedRun(
        basics=run_basics,
        model=model,
        highres=highres,
        registered_guide=registered_guide,
        weight=weight,
        calibration=calibration,
        pair_facts=None if registered_pair is None else registered_pair.pair_facts,
        has_prior=request.method is not None and request.method.has_prior,
        random_seed=random_seed,
    )


def _fit_calibration(
    run_basics: RunBasics, inputs: RunInputs, fit_settings: FitSettings, folder: Path
) -> FittedCalibration:
    """Estimate the fluctuations of the calibration run; warn if it cannot be used."""
    file, n_volumes = _read_calibration(inputs, folder)
    xfm = None
    if inputs.calibration_xfm is not None:
        xfm = load_transform(inputs.calibration_xfm, "calibration_xfm")[None]
    elif fit_settings.registered:
        xfm = make_identity_transforms(1)
    events = inputs.calibration_events
    events_file = None if events is None else check_file(events, "calibration_events")
    with subworkflow("calibration"):
        steady_run = find_steady_state(
            file.import_series(),
            dummy_scans=None,
            search_outliers=False,
        )
        bold, n_dummy = steady_run.bold, steady_run.n_dummy
        if fit_settings.realigned:
            head_motion = reuse_motion(bold, n_dummy, make_identity_transforms(n_volumes))
            head_mask = bold_reference.mask_head(head_motion.boldref)
            head_motion = replace(head_motion, head_mask=head_mask)
            warn_if_not_realigned(bold, head_motion.boldref, head_mask, n_dummy)
        else:
            head_motion = fit_motion(bold, n_dummy)
        calibration = fit_calibration(
            bold,
            n_dummy,
            head_motion,
            run_basics.brain,
            events=events_file,
            levels=() if events_file is None else read_levels(events_file),
            tr=file.tr,
            hrf=HemodynamicResponse(),
            random_seed=fit_settings.training.random_seed,
            outputs=Outputs(output_dir=folder),
            boldref2calibration_xfm=xfm,
        )
    facts = calibration.calibration_facts
    if not facts["usable"]:
        warning_text = (
            "calibration: the calibration run was not used. Variances are estimated from the "
            f"run itself instead. Reason: {facts['reason']}"
        )
        warnings.warn(warning_text, SuperResolutionWarning, stacklevel=6)
    return calibration


def _read_calibration(inputs: RunInputs, folder: Path) -> tuple[SeriesFile, int]:
    """Check the calibration run, and return its file with the repetition time.

    The second value is the number of volumes.
    """
    assert inputs.calibration is not None
    file = series_file(inputs.calibration, folder, "calibration")
    with SeriesReader(file) as reader:
        check_is_series(reader, "calibration")
        check_slice_axis(reader)
        tr = header_tr(reader.header)
        n_volumes = reader.shape[3]
    if not tr > 0:
        raise ImageInputError(
            "the image header does not specify the repetition time or its unit",
            "Set both, for example with image.header.set_zooms((*image.header.get_zooms()[:3], "
            "t_r)) and image.header.set_xyzt_units('mm', 'sec').",
            "calibration",
        )
    return SeriesFile(bold_file=file, tr=tr), n_volumes
