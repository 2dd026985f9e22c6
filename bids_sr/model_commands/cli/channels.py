"""Several contrasts per head for ``compare`` and ``search``, as channels of a network.

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

from bids_sr.config import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image
from bids_sr.metrics import similarity
from bids_sr.model_commands.cli import image_files as files, model_files
from bids_sr.model_commands.cli.evaluate import find_participant
from bids_sr.model_commands.cli.options import ChannelOptions, CompareOptions
from bids_sr.model_commands.cli.score_tables import SCORES, cell_text
from bids_sr.model_commands.method_scores import ScoreRow
from bids_sr.networks import TrainingImage, contrast_image, super_resolve_contrasts
from bids_sr.quality.attention_unet_metrics import nmse_voxel
from bids_sr.quality.effective_resolution import effective_resolution
from bids_sr.sr.method import Method, method_names_without_controls
from bids_sr.sr.models.model import load_model

_NEAR = 1e-3  # mm, largest difference between affines of a grid that is due to rounding


@frozen
class ScannedHead:
    """Scans of a head in one session, with contrasts in the order of ``--channels``.

    `name` consists of participant and session. `fine` and `coarse` are the high- and
    low-resolution files per contrast.
    """

    participant: str
    name: str
    fine: tuple[Path, ...]
    coarse: tuple[Path, ...]

    def read(self, contrasts: Sequence[str], mask_file: Path | None) -> TrainingImage:
        """Read all scans as one image with channels; reject other grids and intensities."""
        arrays: dict[str, list[Array]] = {"fine": [], "coarse": []}
        affine: Array | None = None
        for kind, paths in (("fine", self.fine), ("coarse", self.coarse)):
            for path in paths:
                data, scan_affine = load_image(path)
                if affine is None:
                    affine = scan_affine
                shape = arrays["fine"][0].shape if arrays["fine"] else data.shape
                if (
                    data.ndim != 3
                    or data.shape != shape
                    or np.abs(scan_affine - affine).max() > _NEAR
                ):
                    raise UsageError(
                        f"{path}",
                        f"the grid {data.shape} differs from the grid of"
                        f" {self.fine[0].name}, {shape}",
                        _PREPARE,
                    )
                if data.min() < 0 or data.max() > 1 + _NEAR:
                    reason = (
                        f"intensities range from {data.min():.4g} to {data.max():.4g};"
                        " expected values between 0 and 1"
                    )
                    raise UsageError(f"{path}", reason, _PREPARE)
                arrays[kind].append(data)
        assert affine is not None
        fine, coarse = np.stack(arrays["fine"]), np.stack(arrays["coarse"])
        if mask_file is None:
            mask = np.asarray((coarse > 0).any(axis=0))
        else:
            mask = np.asarray(load_image(mask_file)[0] > 0.5)
        if mask.shape != fine.shape[1:] or not mask.any():
            file_name = f"{mask_file or self.coarse[0]}"
            raise UsageError(
                file_name,
                "the brain mask is empty or does not have the grid of the images",
                _PREPARE,
            )
        return contrast_image(fine, coarse, mask, affine, contrasts, self.name)


_PREPARE = (
    "use the files *_res-hr_desc-measured_* and *_res-hr_desc-bspline_* written by bids-sr ..."
    " --sr-target anat, which are on the same grid and scaled to the same range"
)


def group_by_head(options: ChannelOptions) -> list[ScannedHead]:
    """Group the files of a call by participant and session; reject incomplete groups."""
    groups: dict[str, dict[str, tuple[Path, Path]]] = {}
    participants: dict[str, str] = {}
    for fine, coarse in zip(options.fine, options.coarse, strict=True):
        head, contrast = _head_name(fine), files.parse_contrast(fine, None)
        if (_head_name(coarse), files.parse_contrast(coarse, None)) != (head, contrast):
            reason = (
                f"the corresponding high-resolution image, {fine.name}, is from a different"
                " participant, session or contrast"
            )
            raise UsageError(
                f"{coarse}", reason, "list the high- and low-resolution images in the same order"
            )
        if contrast not in options.channels:
            reason = (
                f"the contrast {contrast} is not one of --channels {' '.join(options.channels)}"
            )
            raise UsageError(f"{fine}", reason, "omit the file, or add the contrast to --channels")
        group = groups.setdefault(head, {})
        if contrast in group:
            reason = f"{head} already has a {contrast} scan, {group[contrast][0].name}"
            raise UsageError(f"{fine}", reason, "specify only one scan per contrast and session")
        group[contrast] = fine, coarse
        participants[head] = find_participant(fine)
    heads = []
    for head, group in groups.items():
        if missing := [name for name in options.channels if name not in group]:
            reason = f"no {' and '.join(missing)} scan was specified"
            fix = (
                f"specify {' '.join(options.channels)} scans for all participants, or omit {head}"
            )
            raise UsageError(head, reason, fix)
        pairs = [group[name] for name in options.channels]
        heads.append(
            ScannedHead(
                participant=participants[head],
                name=head,
                fine=tuple(fine for fine, _ in pairs),
                coarse=tuple(coarse for _, coarse in pairs),
            )
        )
    return heads


def _head_name(file: Path) -> str:
    """Return participant and session of a file.

    >>> _head_name(Path("out/sub-01/anat/sub-01_ses-2_res-hr_desc-measured_T1w.nii.gz"))
    'sub-01_ses-2'
    """
    session = re.search(r"(?:^|_)(ses-[A-Za-z0-9+]+)_", file.name)
    return "_".join([find_participant(file), *([session[1]] if session else [])])


def check_fusing(methods: Sequence[Method]) -> None:
    """Reject methods that only use one contrast."""
    for method in methods:
        if not method.fuses_contrasts:
            from bids_sr.sr.method import get_method

            fusing = [
                name
                for name in method_names_without_controls()
                if get_method(name).fuses_contrasts
            ]
            raise UsageError(
                f"--channels with {method.name}",
                "this method uses only one contrast",
                f"compare {', '.join(fusing)}, or omit --channels",
            )


def score_heads(
    trained: Mapping[str, Path],
    heads: Sequence[tuple[ScannedHead, TrainingImage]],
    options: CompareOptions,
) -> Iterator[ScoreRow]:
    """Yield scores of all models and of the low-resolution scans, one row per contrast.

    Low-resolution scans are interpolated to the high-resolution grid, and serve as the
    interpolation in the comparison with models. Cells are text.
    """
    device = model_files.choose_device(options)
    for head, image in heads:
        assert image.fine is not None
        assert image.coarse is not None
        images_by_name: dict[str, Array] = {}
        for name, path in trained.items():
            images_by_name[name] = super_resolve_contrasts(
                load_model(path),
                image.coarse,
                image.mask,
                image.affine,
                device=device,
                threads=options.threads,
            )
        images_by_name[_interpolation(head.coarse)] = image.coarse
        for name, scans in images_by_name.items():
            for index, reference in enumerate(head.fine):
                row = _scores(scans[index], image.fine[index], image)
                row |= {
                    "name": name,
                    "participant": head.participant,
                    "reference": str(reference),
                }
                yield {**row, **{key: cell_text(row[key]) for key in SCORES}}


def _interpolation(coarse: Sequence[Path]) -> str:
    """Return the series name (``desc`` label) that all low-resolution scans share.

    The name is "coarse" if the names differ or are missing.
    """
    names = {
        match[1] if (match := re.search(r"_desc-([A-Za-z0-9+]+)_", path.name)) else "coarse"
        for path in coarse
    }
    return names.pop() if len(names) == 1 else "coarse"


def _scores(image: Array, reference: Array, head: TrainingImage) -> ScoreRow:
    """Return the metrics for one contrast of a head, within its mask."""
    inside = head.mask > 0
    data_range = similarity.reference_range(reference, inside)
    resolution = None
    if abs(head.zooms[0] - head.zooms[1]) <= 0.01 * head.zooms[0]:
        resolution = effective_resolution(image, head.zooms, inside)
    return {
        "psnr": similarity.psnr(reference, image, data_range=data_range, mask=inside),
        "ssim": similarity.ssim(reference, image, data_range=data_range, mask=inside),
        "rmse": similarity.rmse(reference, image, mask=inside),
        "mae": similarity.mae(reference, image, mask=inside),
        "nmse": similarity.nmse(reference, image, mask=inside),
        "nmse_voxel": nmse_voxel(reference, image, mask=inside),
        "resolution_mm": "n/a" if resolution is None else resolution,
    }
