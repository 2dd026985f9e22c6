"""Section 4.4 of the attention U-Net paper: rigid, affine and nonlinear alignment."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from _papers_attunet import (
    FACTORS,
    PROTOCOLS,
    Scores,
    recipe_of,
    scores_of_contrasts,
    trained,
)
from _papers_claims import Part, keep_claim
from _papers_heads import CONTRASTS, VOXEL, scene, with_noise
from _papers_training import SEED, downsample

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.phantom.poses import draw_pose
from bids_sr.preproc.ants import AntsOptions, RegistrationStage, apply, read_linear, register
from bids_sr.preproc.rigid import dilate_for_metric, linear_stages, register_rigid
from bids_sr.spatial.masks import head_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, resize_affine
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.data.contrast_channels import unit_range
from bids_sr.sr.networks.inference.apply_to_contrasts import super_resolve_contrasts

SHAPE = (56, 72, 56)  # voxels, with the scalp
SCALING = 0.015  # largest error of the low-resolution scanner's gradients, per axis
POSE = ((2.0, 5.0), (2.0, 5.0))  # mm, degrees
TESTED = range(4, 16)


def scans(number: int) -> tuple[dict[str, Volume], dict[str, Volume], Array]:
    """Return high- and low-resolution scans of a head in different poses, and its brain mask."""
    head = scene(number, SHAPE)
    rng = np.random.default_rng([SEED, number, 4])
    shape = head.mask.shape
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = -VOXEL * (np.array(shape) - 1) / 2
    stretch = np.diag([*(1 + rng.uniform(-SCALING, SCALING, 3)), 1.0])
    pose = draw_pose(rng, *POSE) @ stretch
    high, low = {}, {}
    for name in CONTRASTS:
        high[name] = Volume(with_noise(head.images[name], rng), affine)
        moved = sample_volume(head.images[name], affine, shape, affine, pose)
        small = downsample(moved, "block", FACTORS[PROTOCOLS[number % 2]])[0]
        low[name] = Volume(with_noise(small, rng), resize_affine(affine, shape, small.shape))
    return high, low, head.mask


def aligned(
    high: Mapping[str, Volume], low: Mapping[str, Volume], folder: Path
) -> dict[str, Array]:
    """Return low-resolution scans (C, X, Y, Z) on the high-resolution grid by alignment."""
    fixed, moving = low["T1w"], high["T1w"]
    heads = [head_mask(image.data, image.affine) for image in (fixed, moving)]
    size = float(fixed.zooms.min())
    rim = dilate_for_metric(heads[0], fixed)
    matrix = register_rigid(
        fixed, moving, *heads, options=AntsOptions(seed=SEED, prefix=f"{folder}/rigid_")
    ).xfm
    transforms = {"rigid": matrix}
    files = register(
        fixed,
        moving,
        linear_stages("Affine", size),
        options=AntsOptions(seed=SEED, prefix=f"{folder}/affine_"),
        start=matrix,
        fixed_mask=rim,
    )
    transforms["affine"] = read_linear(files[0])
    stage = RegistrationStage(
        transform="SyN[0.1,3,0]", iterations=(40, 20), shrink=(2, 1), mm=(size, 0.5 * size)
    )
    _, inverse = register(
        fixed,
        moving,
        [stage],
        options=AntsOptions(seed=SEED, prefix=f"{folder}/syn_"),
        start=transforms["affine"],
        fixed_mask=rim,
    )
    out = {
        name: np.stack(
            [
                sample_volume(
                    low[contrast].data,
                    low[contrast].affine,
                    moving.data.shape,
                    moving.affine,
                    invert(xfm),
                )
                for contrast in CONTRASTS
            ]
        )
        for name, xfm in transforms.items()
    }
    out["nonlinear"] = np.stack(
        [
            apply(low[contrast], moving, [inverse], seed=SEED, interpolator="bSpline")
            for contrast in CONTRASTS
        ]
    )
    return out


def score(network: LoadedModel | None, high: Array, low: Array, mask: Array) -> Scores:
    """Return the scores of aligned scans, or of a network's output, in units of the scans."""
    tops = [unit_range(image, mask)[1] for image in high]
    fine, coarse = (
        np.stack(
            [
                np.where(mask, np.clip(image / top, 0, 1), 0).astype(np.float32)
                for image, top in zip(images, tops, strict=True)
            ]
        )
        for images in (high, low)
    )
    image = coarse
    if network is not None:
        affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
        image = super_resolve_contrasts(network, coarse, mask, affine)
    return scores_of_contrasts(image, fine, mask)


def alignments(work: Path) -> None:
    """Section 4.4: low-resolution scans aligned to the high-resolution scans."""
    network = trained(work, "attunet", recipe_of("attunet"))
    heads: dict[str, list[Scores]] = {}
    for number in TESTED:
        high, low, mask = scans(number)
        fine = np.stack([high[name].data for name in CONTRASTS])
        with tempfile.TemporaryDirectory() as folder:
            for name, coarse in aligned(high, low, Path(folder)).items():
                heads.setdefault(name, []).append(score(network, fine, coarse, mask))
    parts = []
    for other in ("rigid", "nonlinear"):
        for key, title in (("psnr", "PSNR (dB)"), ("ssim", "SSIM")):
            best, worse = (np.array([head[key] for head in heads[n]]) for n in ("affine", other))
            parts.append(Part(f"{title}, affine − {other}", best - worse))
    keep_claim(
        "li_affine",
        "low-resolution scans in another pose (2 to 5 mm and 2 to 5°), with gradients wrong by up"
        " to 1.5 % along each axis; registration of the T1w images with ANTs; recipe fast, trained"
        " on four heads that need no alignment",
        parts,
    )


PARTS: dict[str, Callable[[Path], None]] = {"attunet_alignment": alignments}
