"""``bids-sr-models series``: one BOLD series with head motion, without a BIDS dataset.

The series is computed by `bids_sr.SuperResolver`. No file is written before all results exist.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bids_sr.api.guide import check_guide
from bids_sr.api.image_inputs import (
    ImageInputError,
    SuperResolutionWarning,
    check_slice_axis,
    open_series,
    working_folder,
)
from bids_sr.api.learned_run import check_method
from bids_sr.api.progress import make_step_printer
from bids_sr.api.run_inputs import RunInputs
from bids_sr.api.run_results import RunResults, compute_run
from bids_sr.api.series_outputs import to_series_image
from bids_sr.api.super_resolver import SuperResolver
from bids_sr.api.task_inputs import RunTask, load_events, parse_contrasts
from bids_sr.cli.models.commands import image_files, model_files, output_files
from bids_sr.cli.models.commands.options import SeriesOptions
from bids_sr.engine.artifacts import Derivative
from bids_sr.glm.design import DesignSettings, build_design, contrast_vector
from bids_sr.glm.map_sidecars import MEAN_SIGNAL
from bids_sr.glm.regressors import DesignError, Events
from bids_sr.io.atomic_files import read_json, write_json, write_text
from bids_sr.io.json_values import as_number
from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.notices import UsageError
from bids_sr.version import __version__


def super_resolve(options: SeriesOptions) -> None:
    """Super-resolve a series, and map the effects of its events if given."""
    inputs = [file for file in (options.bold, options.mask) if file is not None]
    out = output_files.prepare_image_path(options.out, inputs)
    task, tr = _check_inputs(options, out)
    resolver = SuperResolver(
        options.method,
        image_files.parse_factor(options.factor, image_files.IN_PLANE),
        realigned=options.realigned,
        n_jobs=options.threads,
        device=model_files.resolve_device_option(options),
        verbose=1,
    )
    start_time = time.monotonic()
    notes: list[str] = []
    with _usage_errors(options), _collect_warnings(notes), working_folder() as folder:
        resolver.fit(options.bold, mask_img=options.mask)
        with open_series(options.bold, folder, any_order=True) as reader:
            reader.tr = tr
            print_line = make_step_printer(f"SuperResolver {options.method}", 1)
            results = compute_run(resolver, reader, folder, task, print_line)
        names = _write_results(results, out, options)
    sidecar = _describe_series(resolver, results, notes, options) | {"Outputs": names}
    _remove_earlier_outputs(out, names)
    write_json(_name_output(out, ".json"), sidecar)
    for note in notes:
        print(f"Note: {note}")
    minutes = (time.monotonic() - start_time) / 60
    print(f"{out}: super-resolved with {options.method} in {minutes:.1f} min")
    _print_outputs(results, out, names)
    if not resolver.applied_:
        print(f"Not applied: {sidecar['ReasonNotApplied']}.")


def _check_inputs(options: SeriesOptions, out: Path) -> tuple[RunTask | None, float]:
    """Check method and files before anything is computed.

    Returns the task; None if there are no events. The repetition time (s) is 0 if it is unknown.
    """
    with _usage_errors(options):
        check_method(options.method, "fast")
    try:
        check_guide(options.method, None, RunInputs())
    except ImageInputError as error:
        reason = "the method requires a high-resolution T2*w image of the participant"
        fix = f"use --method sbl, or bids-sr ... --sr-method {options.method}"
        raise UsageError(f"--method {options.method}", reason, fix) from error
    with SeriesReader(options.bold) as reader:
        if reader.shape[3] < 2:
            raise UsageError(
                f"{options.bold}",
                f"a series (4D) is required, but the shape is {reader.shape[: reader.ndim]}",
                "specify a BOLD series, or use bids-sr-models apply for a single image",
            )
        with _usage_errors(options):
            check_slice_axis(reader)
        if options.mask is not None:
            _check_mask(options.mask, reader, out)
    tr = _read_repetition_time(options.bold)
    if options.events is None:
        return None, tr
    return _load_task(options, reader.shape[3], tr), tr


def _check_mask(mask: Path, reader: SeriesReader, out: Path) -> None:
    """Raise an error unless a mask is on the grid of the series, and would not be overwritten."""
    values, affine = load_image(mask)
    if values.shape != reader.shape[:3] or not np.allclose(affine, reader.affine, atol=1e-3):
        reason = (
            f"the mask, of shape {values.shape}, is not on the grid of {reader.path}, of shape"
            f" {reader.shape[:3]}"
        )
        fix = "resample the mask to the grid of the series, or omit --mask"
        raise UsageError(f"{mask}", reason, fix)
    if not (values > 0.5).any():
        raise UsageError(f"{mask}", "the mask is empty", "use another mask, or omit --mask")
    new_mask = _name_output(out, "_mask.nii.gz")
    if new_mask.exists() and new_mask.samefile(mask):
        reason = "the mask of the super-resolved series would overwrite this file"
        raise UsageError(f"{mask}", reason, "choose another name of the output series")


def _read_repetition_time(bold: Path) -> float:
    """Return the repetition time (s) from the sidecar, else from the header; 0 if unknown."""
    value = read_json(bold.with_name(f"{output_files.get_image_stem(bold)}.json")).get(
        "RepetitionTime"
    )
    if isinstance(value, (int, float)) and value > 0:
        return float(value)
    with working_folder() as folder, open_series(bold, folder) as reader:
        return reader.tr


def _load_task(options: SeriesOptions, n_volumes: int, tr: float) -> RunTask:
    """Return events and default contrasts; reject events without a linear model."""
    assert options.events is not None
    if not tr > 0:
        reason = (
            "--events requires the repetition time, which is neither in the JSON sidecar nor,"
            " with its unit, in the header of the image"
        )
        sidecar = options.bold.with_name(f"{output_files.get_image_stem(options.bold)}.json")
        fix = f'write {{"RepetitionTime": SECONDS}} to {sidecar}'
        raise UsageError(f"{options.bold}", reason, fix)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SuperResolutionWarning)
            task = _build_task(load_events(options.events), n_volumes, tr)
    except (ImageInputError, DesignError) as error:
        reason = str(error).removeprefix("events: ").removeprefix(f"{options.events}: ")
        raise UsageError(
            f"{options.events}", reason, "correct the file, or omit --events"
        ) from error
    for warning in caught:
        print(f"Note: {options.events}: {warning.message}")
    return task


def _build_task(events: Events, n_volumes: int, tr: float) -> RunTask:
    """Return events with the default contrasts; raise DesignError if one cannot be estimated."""
    settings = DesignSettings()
    design = build_design(events, settings, n_volumes=n_volumes, tr=tr, confound_names=())
    contrasts = parse_contrasts(events, (), settings, n_volumes, tr)
    if not contrasts:
        raise DesignError(f"no event is inside the run ({n_volumes} volumes of {tr:g} s)")
    for name, weights in contrasts.items():
        contrast_vector(design, name, weights)
    return RunTask(events=events, contrasts=contrasts, design=settings)


@contextmanager
def _usage_errors(options: SeriesOptions) -> Iterator[None]:
    """Turn errors about arguments of `SuperResolver` into errors about files and options."""
    try:
        yield
    except ImageInputError as error:
        argument, _, text = str(error).partition(": ")
        subjects = {
            "bold": f"{options.bold}",
            "mask_img": f"{options.mask or options.bold}",
            "method": f"--method {options.method}",
            "factor": "--factor",
        }
        raise UsageError(f"{subjects.get(argument, argument)}: {text}") from error


@contextmanager
def _collect_warnings(notes: list[str]) -> Iterator[None]:
    """Add warnings of `SuperResolver` to a list instead of printing them with their source."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SuperResolutionWarning)
        yield
    notes += [
        _name_option(str(warning.message))
        for warning in caught
        if issubclass(warning.category, SuperResolutionWarning)
    ]


def _name_option(text: str) -> str:
    """Replace the argument `realigned` of `SuperResolver` in a warning by the option."""
    text = text.replace("realigned=True was passed", "--realigned was specified")
    return text.replace(
        "Omit realigned, or pass the head-motion transforms with motion", "Omit --realigned"
    )


def _write_results(results: RunResults, out: Path, options: SeriesOptions) -> list[str]:
    """Write series, brain mask, head motion, prior SD map and effects.

    Returns the names of all files except the series.
    """
    to_series_image(results.series_file, out, is_volume=False)
    brain = results.brain
    save_image(brain.data, brain.affine, _name_output(out, "_mask.nii.gz"), dtype=np.uint8)
    suffixes = ["_mask.nii.gz"]
    if not options.realigned:
        table = results.motion.to_csv(sep="\t", na_rep="n/a", index=False)
        write_text(_name_output(out, "_motion.tsv"), table)
        suffixes.append("_motion.tsv")
    if results.prior_sd is not None:
        prior_sd = results.prior_sd
        save_image(prior_sd.data, prior_sd.affine, _name_output(out, "_priorsd.nii.gz"))
        suffixes.append("_priorsd.nii.gz")
    for derivative in results.maps:
        suffixes += _write_map(derivative, results, out)
    return [_name_output(out, suffix).name for suffix in suffixes]


def _write_map(derivative: Derivative, results: RunResults, out: Path) -> list[str]:
    """Write an effect or its total SD with its sidecar, and return the suffixes of both files."""
    suffix = f"_contrast-{derivative.entities['contrast']}_stat-{derivative.entities['stat']}"
    volume = derivative.volume
    save_image(volume.data, volume.affine, _name_output(out, f"{suffix}.nii.gz"))
    error_text = "included in the total SD (stat-sdTotal)" if results.has_error else "unknown"
    write_json(
        _name_output(out, f"{suffix}.json"),
        {**derivative.sidecar, "ErrorOfReconstruction": error_text},
    )
    return [f"{suffix}.nii.gz", f"{suffix}.json"]


def _describe_series(
    resolver: SuperResolver, results: RunResults, notes: Sequence[str], options: SeriesOptions
) -> dict[str, object]:
    """Return the content of the sidecar of the series, apart from its other files."""
    content: dict[str, object] = {
        "Description": f"BOLD series super-resolved with {options.method}, corrected for head"
        " motion, in signal units; for research use only, not for clinical use",
        "Sources": [str(file) for file in (options.bold, options.mask, options.events) if file],
        "Method": options.method,
        "Factor": list(resolver.factor_),
        "Applied": resolver.applied_,
        "HeadMotion": "corrected before" if options.realigned else "estimated",
        "DummyVolumes": resolver.n_dummy_,
        "GeneratedByVersion": __version__,
    }
    if not resolver.applied_:
        content["ReasonNotApplied"] = (
            f"{resolver.facts_['held_out']['model']}. The series and maps of {options.method} are"
            " zero filled, and the reconstruction error is unknown"
        )
    if results.prior_sd is not None:
        content["PriorSD"] = (
            "standard deviation of the fluctuations on the high-resolution grid, in signal units"
        )
    if results.maps:
        content[MEAN_SIGNAL] = _mean_signal(results)
    if notes:
        content["Notes"] = list(notes)
    return content


def _print_outputs(results: RunResults, out: Path, names: Sequence[str]) -> None:
    """Print which files were written besides the series, and the scale of the maps."""
    stem = output_files.get_image_stem(out)
    if not results.maps:
        print(f"Also written: {', '.join(names)}")
        return
    n_map_files = 2 * len(results.maps)
    contrasts, stats = (
        ",".join(dict.fromkeys(derivative.entities[key] for derivative in results.maps))
        for key in ("contrast", "stat")
    )
    map_names = f"{stem}_contrast-{{{contrasts}}}_stat-{{{stats}}}.nii.gz"
    print(f"Also written: {', '.join([*names[:-n_map_files], map_names])}")
    print(
        f"Maps are in percent of the mean brain signal ({as_number(_mean_signal(results)):.4g}),"
        " without smoothing. Their detail was not tested: use recovered_detail in Python, or"
        " bids-sr."
    )


def _mean_signal(results: RunResults) -> object:
    """Return the signal that equals 100 % in the maps."""
    return results.maps[0].sidecar[MEAN_SIGNAL]


def _remove_earlier_outputs(out: Path, names: Sequence[str]) -> None:
    """Remove files of an earlier call with the same output that this call did not replace."""
    earlier = read_json(_name_output(out, ".json")).get("Outputs")
    prefix = f"{output_files.get_image_stem(out)}_"
    for name in earlier if isinstance(earlier, list) else []:
        is_output = isinstance(name, str) and name.startswith(prefix) and Path(name).name == name
        if is_output and name not in names:
            out.with_name(name).unlink(missing_ok=True)


def _name_output(out: Path, suffix: str) -> Path:
    """Return a file with the name of the output series and a suffix in place of its extension."""
    return out.with_name(f"{output_files.get_image_stem(out)}{suffix}")
