"""Several contrasts per head for ``compare``, as channels of a network.

The files are prepared scans written by ``bids-sr --sr-target anat``: high- and low-resolution
scans of all contrasts on the same grid, scaled to 0 to 1, with 0 outside the brain.

Source: attention_unet, sections 3.1 and 3.2: T1w, T2w and FLAIR as channels, and a random split of
participants.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_sr.cli.models.commands import image_files as files, model_files
from bids_sr.cli.models.commands.evaluate import find_participant, measure_image
from bids_sr.cli.models.commands.options import CompareOptions
from bids_sr.cli.models.method_scores import ScoreRow
from bids_sr.engine.metric_rows import MISSING
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import load_image
from bids_sr.io.notices import UsageError
from bids_sr.spatial import image_similarity
from bids_sr.spatial.effective_resolution import effective_resolution
from bids_sr.sr.method import Method, get_method, method_names_without_controls
from bids_sr.sr.models.model import load_model
from bids_sr.sr.networks.data.contrast_channels import contrast_image
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.inference.apply_to_contrasts import super_resolve_contrasts

_MAX_AFFINE_ROUNDING = 1e-3  # mm, largest difference between affines of a grid due to rounding
_MAX_INTENSITY_ROUNDING = 1e-3  # largest excess of a scaled intensity over 1 due to rounding
_PREPARATION_FIX = (
    "use the files *_res-hr_desc-measured_* and *_res-hr_desc-bspline_* written by bids-sr ..."
    " --sr-target anat, which are on the same grid and scaled to the same range"
)


@frozen
class ScannedHead:
    """Scans of a head in one session, with contrasts in the order of ``--channels``.

    `participant` is such as ``sub-01``, and `name` includes the session. `fine` and `coarse` are
    the high- and low-resolution file of each contrast. `mask` is the file of the brain mask; None
    computes the mask from the scans.
    """

    participant: str
    name: str
    fine: tuple[Path, ...]
    coarse: tuple[Path, ...]
    mask: Path | None = None

    def read(self, contrasts: Sequence[str]) -> TrainingImage:
        """Read all scans as one image with channels; reject other grids and intensities."""
        scans: list[Array] = []
        affines: list[Array] = []
        for path in (*self.fine, *self.coarse):
            scan, affine = load_image(path)
            scans.append(scan)
            affines.append(affine)
            offset = np.abs(affine - affines[0]).max()
            if scan.ndim != 3 or scan.shape != scans[0].shape or offset > _MAX_AFFINE_ROUNDING:
                raise UsageError(
                    f"{path}",
                    f"the grid {scan.shape} differs from the grid of {self.fine[0].name},"
                    f" {scans[0].shape}",
                    _PREPARATION_FIX,
                )
            if scan.min() < 0 or scan.max() > 1 + _MAX_INTENSITY_ROUNDING:
                raise UsageError(
                    f"{path}",
                    f"intensities range from {scan.min():.4g} to {scan.max():.4g};"
                    " expected values between 0 and 1",
                    _PREPARATION_FIX,
                )
        fine, coarse = np.stack(scans[: len(self.fine)]), np.stack(scans[len(self.fine) :])
        if self.mask is None:
            mask = np.asarray((coarse > 0).any(axis=0))
        else:
            mask = np.asarray(load_image(self.mask)[0] > 0.5)
        if mask.shape != fine.shape[1:] or not mask.any():
            raise UsageError(
                f"{self.mask or self.coarse[0]}",
                "the brain mask is empty or does not have the grid of the images",
                _PREPARATION_FIX,
            )
        return contrast_image(fine, coarse, mask, affines[0], contrasts, self.name)


def group_by_head(options: CompareOptions) -> list[ScannedHead]:
    """Group the files of a call by participant and session; reject incomplete groups."""
    groups: dict[str, dict[str, tuple[Path, Path]]] = {}
    for fine, coarse in zip(options.fine, options.coarse, strict=True):
        head, contrast = _identify_scan_pair(fine, coarse, options.channels)
        group = groups.setdefault(head, {})
        if contrast in group:
            reason = f"{head} already has a {contrast} scan, {group[contrast][0].name}"
            raise UsageError(f"{fine}", reason, "specify only one scan per contrast and session")
        group[contrast] = fine, coarse
    mask_of_scan = dict(zip(options.fine, options.mask, strict=False))
    heads = []
    for name, group in groups.items():
        if missing_contrasts := [suffix for suffix in options.channels if suffix not in group]:
            reason = f"no {' and '.join(missing_contrasts)} scan was specified"
            scans = " ".join(options.channels)
            fix = f"specify {scans} scans for all participants, or omit {name}"
            raise UsageError(name, reason, fix)
        fine_scans, coarse_scans = zip(
            *(group[suffix] for suffix in options.channels), strict=True
        )
        heads.append(
            ScannedHead(
                participant=find_participant(fine_scans[0]),
                name=name,
                fine=fine_scans,
                coarse=coarse_scans,
                mask=mask_of_scan.get(fine_scans[0]),
            )
        )
    return heads


def _identify_scan_pair(fine: Path, coarse: Path, channels: Sequence[str]) -> tuple[str, str]:
    """Return head and contrast of a high- and a low-resolution scan.

    Scans of different heads or contrasts, and contrasts that are not channels, are rejected.
    """
    head, contrast = _get_head_name(fine), files.parse_contrast(fine, None)
    if (_get_head_name(coarse), files.parse_contrast(coarse, None)) != (head, contrast):
        reason = (
            f"the corresponding high-resolution image, {fine.name}, is from a different"
            " participant, session or contrast"
        )
        raise UsageError(
            f"{coarse}", reason, "list the high- and low-resolution images in the same order"
        )
    if contrast not in channels:
        reason = f"the contrast {contrast} is not one of --channels {' '.join(channels)}"
        raise UsageError(f"{fine}", reason, "omit the file, or add the contrast to --channels")
    return head, contrast


def _get_head_name(file: Path) -> str:
    """Return participant and session of a file.

    >>> _get_head_name(Path("out/sub-01/anat/sub-01_ses-2_res-hr_desc-measured_T1w.nii.gz"))
    'sub-01_ses-2'
    """
    session = re.search(r"(?:^|_)(ses-[A-Za-z0-9+]+)_", file.name)
    return "_".join([find_participant(file), *([session[1]] if session else [])])


def check_fusing(methods: Sequence[Method]) -> None:
    """Reject methods that only use one contrast."""
    for method in methods:
        if not method.fuses_contrasts:
            fusing_methods = [
                name
                for name in method_names_without_controls()
                if get_method(name).fuses_contrasts
            ]
            raise UsageError(
                f"--channels with {method.name}",
                "this method uses only one contrast",
                f"compare {', '.join(fusing_methods)}, or omit --channels",
            )


def score_heads(
    model_files_by_name: Mapping[str, Path],
    heads: Sequence[tuple[ScannedHead, TrainingImage]],
    options: CompareOptions,
) -> Iterator[ScoreRow]:
    """Yield scores of all models and of the low-resolution scans, one row per contrast.

    Low-resolution scans are interpolated to the high-resolution grid, and serve as the
    interpolation in the comparison with models. `model_files_by_name` are by the name in the
    table. `options` determine device and threads.
    """
    device = model_files.resolve_device_option(options)
    for head, image in heads:
        assert image.fine is not None
        assert image.coarse is not None
        images_by_name = {
            name: super_resolve_contrasts(
                load_model(path),
                image.coarse,
                image.mask,
                image.affine,
                device=device,
                threads=options.threads,
            )
            for name, path in model_files_by_name.items()
        }
        images_by_name[_get_interpolation_name(head.coarse)] = image.coarse
        for name, scans in images_by_name.items():
            for index, reference in enumerate(head.fine):
                row = _score_scan(scans[index], image.fine[index], image)
                row |= {
                    "name": name,
                    "participant": head.participant,
                    "reference": str(reference),
                }
                yield row


def _get_interpolation_name(coarse: Sequence[Path]) -> str:
    """Return the series name (``desc`` label) that all low-resolution scans share.

    The name is "coarse" if the names differ or are missing.
    """
    names = {
        match[1] if (match := re.search(r"_desc-([A-Za-z0-9+]+)_", path.name)) else "coarse"
        for path in coarse
    }
    return names.pop() if len(names) == 1 else "coarse"


def _score_scan(scan: Array, reference: Array, head: TrainingImage) -> ScoreRow:
    """Return the metrics for one contrast of a head, within its mask."""
    is_inside = head.mask > 0
    data_range = image_similarity.reference_range(reference, is_inside)
    resolution = None
    has_square_voxels = abs(head.zooms[0] - head.zooms[1]) <= 0.01 * head.zooms[0]
    if has_square_voxels:
        resolution = effective_resolution(scan, head.zooms, is_inside)
    return {
        **measure_image(reference, scan, is_inside, data_range),
        "resolution_mm": MISSING if resolution is None else resolution,
    }
