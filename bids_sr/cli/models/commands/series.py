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

from bids_sr.api.image_inputs import ImageInputError, SuperResolutionWarning, working_folder
from bids_sr.api.run_results import RunResults, super_resolve_run
from bids_sr.api.series_outputs import to_series_image
from bids_sr.api.super_resolver import SuperResolver
from bids_sr.cli.models.commands import image_files, model_files, output_files
from bids_sr.cli.models.commands.options import SeriesOptions
from bids_sr.engine.artifacts import Derivative
from bids_sr.glm.map_sidecars import MEAN_SIGNAL
from bids_sr.io.atomic_files import read_json, write_json, write_text
from bids_sr.io.json_values import as_number
from bids_sr.io.nifti import save_image
from bids_sr.io.notices import UsageError
from bids_sr.version import __version__


def super_resolve(options: SeriesOptions) -> None:
    """Super-resolve a series, and map the effects of its events if given."""
    inputs = [file for file in (options.bold, options.mask) if file is not None]
    out = output_files.prepare_image_path(options.out, inputs)
    output_files.prepare_image_path(_name_output(out, "_mask.nii.gz"), inputs)
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
    with _use_own_words(options, notes), working_folder() as folder:
        results = super_resolve_run(
            resolver,
            options.bold,
            folder,
            mask_img=options.mask,
            events=options.events,
            t_r=_read_repetition_time(options.bold),
        )
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


def _read_repetition_time(bold: Path) -> float:
    """Return the repetition time (s) from the sidecar of a series; 0 if it is missing."""
    value = read_json(_name_output(bold, ".json")).get("RepetitionTime")
    return float(value) if isinstance(value, (int, float)) and value > 0 else 0.0


@contextmanager
def _use_own_words(options: SeriesOptions, notes: list[str]) -> Iterator[None]:
    """Name files and options instead of arguments of `SuperResolver`, and collect its warnings.

    Warnings are added to `notes`.
    """
    method = f"--method {options.method}"
    sidecar = _name_output(options.bold, ".json")
    words = {
        "bold": (f"{options.bold}", ""),
        "mask_img": (
            f"{options.mask}",
            "specify a mask on the grid of the series, or omit --mask",
        ),
        "method": (method, ""),
        "guide": (method, f"use --method sbl, or bids-sr ... --sr-{method[2:]}"),
        "factor": ("--factor", ""),
        "events": (f"{options.events}", "correct the file, or omit --events"),
        "t_r": (f"{options.bold}", f'write {{"RepetitionTime": SECONDS}} to {sidecar}'),
        "realigned": ("--realigned", "Omit --realigned."),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SuperResolutionWarning)
        try:
            yield
        except ImageInputError as error:
            raise UsageError.about(error, *words.get(error.argument, ())) from error
    for warning in (entry.message for entry in caught):
        if isinstance(warning, SuperResolutionWarning):
            subject, remedy = words.get(warning.argument, ("", ""))
            text = ": ".join(filter(None, (subject, warning.reason)))
            notes.append(f"{text}. {remedy}" if remedy else text)


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
