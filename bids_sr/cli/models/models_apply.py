"""``bids-sr-models apply``: a model or an interpolation on any NIfTI image, one volume in memory."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bids_sr import __version__
from bids_sr.cli.models.models_files import (
    Scene,
    contrast_of,
    factor_from,
    fit_for,
    open_model,
    scene_of,
    stem_of,
    threads_and_device,
    to_write,
)
from bids_sr.config import UsageError
from bids_sr.io.atomic_files import write_whole
from bids_sr.io.nifti import SeriesReader, SeriesWriter, save_image
from bids_sr.series import BASELINES, INTERPOLATIONS, PAIR_BASELINES
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.apply_to_series import InferenceError, Upsampler, inconsistency, make_upsampler
from bids_sr.sr.models.compatibility import domain_difference
from bids_sr.sr.resolution.matrices import MATRICES

if TYPE_CHECKING:
    from bids_sr.sr.models.model import LoadedModel
    from bids_sr.sr.resolution.matrices import Factor

Array = NDArray[Any]
IN_PLANE: Factor = (2.0, 2.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A method or an interpolation for one image; `make` builds the upsampler, `overruled` is what ``--force`` did."""

    name: str
    factor: Factor
    make: Callable[[Scene], Upsampler]
    model: LoadedModel | None = None
    overruled: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Of the network; 0 without one."""
        return 0 if self.model is None else sum(p.numel() for p in self.model.generator.parameters())


def ready(name: str, reader: SeriesReader, options: argparse.Namespace, default: Factor | None = None) -> Ready:
    """Check that a model file, or an interpolation, fits an image of which only the header is read.

    `default` is the factor where the command line names none and there is no model.
    """
    if name in PAIR_BASELINES:
        why = "it takes its detail from a fine image of the same participant, in register with the run"
        raise UsageError(name, why, "use bids-sr, which registers them: --sr-method inject ratio")
    if name in BASELINES and name not in INTERPOLATIONS:
        why = "it weighs changes over time by where a run fluctuates, which needs its brain and head motion"
        raise UsageError(name, why, f"use bids-sr, which finds them: --sr-method {name}")
    if name in MATRICES:
        factor = factor_from(options.factor, default or IN_PLANE)
        return Ready(name=name, factor=factor, make=lambda scene: make_upsampler(name, factor, affine=reader.affine))
    model = open_model(name)
    own, shape = model.card.factor, reader.shape[:3]
    if default is None or hr_grid(shape, reader.affine, own)[0] == hr_grid(shape, reader.affine, default)[0]:
        default = own  # the same grid: 43.75 voxels become 44 by 1.25 and by 44/35
    factor = factor_from(options.factor, default)
    contrast = contrast_of(reader.path, options.contrast)
    overruled = fit_for(model, reader, contrast, factor, force=options.force)
    device = threads_and_device(options.threads, options.device)

    def make(scene: Scene) -> Upsampler:
        return make_upsampler(
            model.card.method, factor, affine=reader.affine, model=model, scale=scene.scale, mask=scene.mask,
            precision=options.precision, device=device, threads=options.threads,
        )  # fmt: skip

    return Ready(name=model.card.method, factor=factor, make=make, model=model, overruled=tuple(overruled))


def apply(options: argparse.Namespace) -> None:
    """Super-resolve an image."""
    out = to_write(options.out, [options.image])
    with SeriesReader(options.image) as reader:
        prepared = ready(options.model, reader, options)
        notes = [f"--force overruled: {each}" for each in prepared.overruled]
        scene = scene_of(reader, options.mask)
        notes += [scene.note] * bool(scene.note)
        difference = domain_difference(prepared.model.card, scene.mean, scene.mask) if prepared.model else None
        notes += difference.warnings if difference is not None else []
        for note in notes:
            print(f"note: {note}")
        began = time.monotonic()
        # threads of numpy's library wait busily, and would take the cores from those of torch
        with threadpool_limits(1, user_api="blas"):
            lost = _written(reader, prepared.make(scene), prepared.factor, out)
        seconds = time.monotonic() - began
    content: dict[str, Any] = {
        "Description": f"super-resolved by {prepared.name}; for research, not for clinical use",
        "Sources": [str(options.image)],
        "Method": prepared.name,
        "Factor": list(prepared.factor),
        "GeneratedByVersion": __version__,
        "LostShareOfAcquired": round(lost, 6),
    }
    if prepared.model is not None:
        content |= {"Model": str(options.model), "ModelSHA256": prepared.model.card.weights_sha256}
    content |= {"Notes": notes} if notes else {}
    write_whole(out.with_name(f"{stem_of(out)}.json"), json.dumps(content, indent=2) + "\n")
    print(
        f"{out}: {reader.shape[3]} volume(s) by {prepared.name}, {seconds:.1f} s; "
        f"{100 * lost:.2g} % of what was acquired is not in the result"
    )


def _written(reader: SeriesReader, upsampler: Upsampler, factor: Factor, out: Path) -> float:
    """Write the super-resolved image; returns the mean share of acquired data that was lost."""
    shape, affine = hr_grid(reader.shape[:3], reader.affine, factor)
    if reader.ndim == 3:
        volume = reader.volume(0)
        fine = checked(upsampler(volume, np.eye(4)), 0)
        save_image(fine.astype(np.float32), affine, out, header_like=reader.header)
        return inconsistency(fine, volume)
    lost, count = [], reader.shape[3]
    with SeriesWriter(out, (*shape, count), affine, reader.tr, header_like=reader.header) as writer:
        for t, volume in enumerate(reader.volumes()):
            fine = checked(upsampler(volume, np.eye(4)), t)
            lost.append(inconsistency(fine, volume))
            writer.append(fine)
            _bar(t + 1, count)
    return float(np.mean(lost))


def checked(fine: Array, volume: int) -> Array:
    """A super-resolved volume, refused where it is not finite."""
    if not np.isfinite(fine).all():
        raise InferenceError(f"volume {volume}: super-resolution gave values that are not finite")
    return fine


def _bar(done: int, count: int) -> None:
    """Progress, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{done}/{count} volumes", end="" if done < count else "\n", file=sys.stderr, flush=True)
