"""Preparation of structural scans for a fusion network: bias field, brain, alignment, intensities.

Every scan is aligned to the frame, the high-resolution scan of the first contrast, and
interpolated once. The default transform is rigid, so that no head changes its size. Affine and
nonlinear transforms start from the result of the simpler transform. An affine also corrects
scaling and shear between scanners with different gradient calibration, and a nonlinear transform
(SyN) corrects nonlinear gradients. If there are no such differences, both fit noise and blur.

With "template", scans are aligned to the frame by an affine, and the frame to the template by
another affine; "template-rigid" and "template-warp" use rigid and nonlinear transforms instead.
Both transforms are applied in one interpolation to a grid with the frame's voxel size around the
template's intracranial volume.

Scans are extracted by the brain mask, or by an intracranial mask, which also contains the space
around the brain with its sinuses.

Source: attention_unet, section 3.1, which aligns to a template and finds nonlinear registration
useless (section 4.4).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.config.sections.anat import AlignmentModel, Extraction, IntensityScaling
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.series import parse_series_name
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions, RegistrationStage, read_linear, register
from bids_sr.preproc.bias_field import correct_bias_field
from bids_sr.preproc.brain import brain_from_head, downsample
from bids_sr.preproc.rigid import (
    dilate_for_metric,
    displacement_summary,
    linear_stages,
    nearest_rigid,
    register_rigid,
)
from bids_sr.spatial import masks
from bids_sr.spatial.matrices import downsample as downsample_kspace, interpolate
from bids_sr.spatial.transforms import invert, rms_distance, voxel_centers
from bids_sr.sr.networks.data.contrast_channels import unit_range
from bids_sr.structural.point_transforms import (
    PointTransform,
    compose,
    point_transform_from_composite,
)
from bids_sr.structural.template_alignment import align_to_template, template_grid

_Transform = Literal["rigid", "affine", "nonlinear"]
# transform types between scans, and from frame to template, for alignments to the template
_TEMPLATE_TRANSFORMS: dict[str, _Transform] = {
    "template-rigid": "rigid",
    "template": "affine",
    "template-warp": "nonlinear",
}
# distance from the brain mask to the edge of the intracranial mask, which contains subarachnoid
# space and dura with its sinuses and ends in the inner table of the skull
_INTRACRANIAL_MM = 6.0
_REGISTRATION_MM = 2.0  # voxel size for registration; twice as large if sloppy
_EQUAL_VOLUMES = 1.01  # largest ratio of voxel volumes of two images with equal voxels
_POINT_STEP = 7  # of the brain voxels, every seventh serves to measure transforms
_ScanKey = tuple[str, str]  # contrast, and "highres" or "lowres"
CorrectBias = Callable[[Volume, str], Volume]
"""Function that corrects the bias field of a scan, given its contrast."""
ExtractBrain = Callable[[Volume], Array]
"""Function that returns the brain mask of a bias-corrected scan (3D, boolean)."""
AlignLinear = Callable[[Volume, Volume], Array]
"""Function that returns the transform of a frame point to its point in a scan, for trilinear
interpolation (4 x 4, RAS mm).
"""


@frozen
class ScanTools:
    """Functions that prepare scans in place of the default ones.

    By default, bias fields are corrected by N4, the brain mask of the template is adapted to the
    head, and scans are interpolated trilinearly with the same transforms as otherwise.
    """

    correct_bias: CorrectBias | None = None
    extract_brain: ExtractBrain | None = None
    align_linear: AlignLinear | None = None


DEFAULT_TOOLS = ScanTools()


@frozen
class _PreparedContrasts:
    """Scans of all contrasts on one grid, from 0 to 1 and 0 outside the mask.

    `highres` are scans by contrast, and `lowres` interpolated scans by interpolation and contrast.
    `mask` are voxels with data: the brain or the intracranial volume (3D, boolean). `affine` is
    the voxel-to-world matrix of the grid, and `to_template` transforms a point of the grid to its
    template point (4 x 4, RAS+ mm; affine). `units` are the intensities that are scaled to 1, by
    contrast, and `facts` displacements by scan.
    """

    highres: Mapping[str, Array]
    lowres: Mapping[str, Mapping[str, Array]]
    mask: Array
    brain: Array
    affine: Array
    units: Mapping[str, float]
    facts: dict[str, dict[str, float]]
    to_template: Array

    def record(self, align: AlignmentModel) -> dict[str, object]:
        """Return facts on the preparation for later steps and the report."""
        return {
            "units": self.units,
            "align": align,
            "offsets": self.facts,
            "to_template": self.to_template.tolist(),
        }


def prepare(
    scans: Mapping[_ScanKey, Volume],
    template: Volume,
    template_mask: Array,
    *,
    interpolations: Sequence[str] = ("bspline",),
    align: AlignmentModel = "rigid",
    scale: IntensityScaling = "percentile",
    extraction: Extraction = "brain",
    grid: Volume | None = None,
    corrected_mask: ExtractBrain | None = None,
    crop_factor: Factor | None = None,
    tools: ScanTools = DEFAULT_TOOLS,
    options: AntsOptions,
) -> _PreparedContrasts:
    """Prepare the scans of one head; the first contrast defines the frame.

    Parameters
    ----------
    scans : Mapping[_ScanKey, Volume]
        Scans by contrast and resolution (``highres`` or ``lowres``). For contrasts without a
        low-resolution scan, the 99.9th percentile of the high-resolution scan is scaled to 1. With
        a `grid`, all scans are low-resolution.
    template : Volume
        Skull-stripped T1w template (3D).
    template_mask : Array
        Brain voxels of the template (3D, boolean).
    interpolations : Sequence[str], optional
        Interpolations of low-resolution scans by name. They must include ``bspline``, the input of
        networks.
    align : AlignmentModel, optional
        Transform type between scans: ``rigid``, ``affine`` or ``nonlinear``. With
        ``template-rigid``, ``template`` (affine) or ``template-warp``, the frame is also aligned
        to the template by this type, and the cropped template grid replaces the frame's grid.
    scale : IntensityScaling, optional
        Scaling of intensities to [0, 1].
    extraction : Extraction, optional
        Voxels to keep: the brain, or everything within `_INTRACRANIAL_MM` of the brain.
    grid : Volume | None, optional
        Target grid for a head without high-resolution scans, in the coordinates of the first scan;
        its values are not used. None uses the grid of the high-resolution scan of the first
        contrast.
    corrected_mask : ExtractBrain | None, optional
        Function that returns the voxels to keep on the grid of an image; None uses the brain.
    crop_factor : Factor | None, optional
        Factor of the k-space crop that simulates low-resolution scans; None uses measured scans.
    tools : ScanTools, optional
        Functions for bias fields, the brain mask of the frame, and trilinear interpolation.
    options : AntsOptions
        Seed and names of files.

    Returns
    -------
    _PreparedContrasts
        Scans on the target grid from 0 to 1, masks and facts.

    Raises
    ------
    ValueError
        A scan has no positive intensities inside the brain.
    """
    corrected = _correct_bias(scans, tools, options)
    frame_key, frame = _choose_frame(corrected, grid)
    brain, template_to_head, _ = brain_from_head(
        frame,
        template,
        template_mask,
        options.extend("brain_"),
        adapt_to_tissue=frame_key[0] == "T1w",
    )
    if tools.extract_brain is not None:
        brain = tools.extract_brain(frame)
    template_transform = _TEMPLATE_TRANSFORMS.get(align)
    alignment = _align_scans(
        corrected,
        frame_key,
        frame,
        brain,
        align=cast(_Transform, align) if template_transform is None else template_transform,
        align_linear=tools.align_linear if "linear" in interpolations else None,
        to_template=invert(template_to_head),
        options=options,
    )
    if template_transform is not None:
        alignment = _move_to_template(
            alignment,
            template,
            template_mask,
            template_to_head,
            transform=template_transform,
            options=options.extend("template_"),
        )
    alignment, extraction_mask = _choose_voxels(alignment, extraction, corrected_mask)
    return _interpolate_scans(
        corrected, alignment, extraction_mask, interpolations, scale, crop_factor
    )


def _correct_bias(
    scans: Mapping[_ScanKey, Volume], tools: ScanTools, options: AntsOptions
) -> dict[_ScanKey, Volume]:
    """Correct the bias fields of all scans."""
    iterations = (20,) if options.sloppy else (20, 15)
    return {
        key: correct_bias_field(image, None, seed=options.seed, iterations=iterations)
        if tools.correct_bias is None
        else tools.correct_bias(image, key[0])
        for key, image in scans.items()
    }


def _choose_frame(
    corrected: Mapping[_ScanKey, Volume], grid: Volume | None
) -> tuple[_ScanKey, Volume]:
    """Return the scan of the first contrast that defines the frame, on the `grid` if there is one.

    With a grid, there are no high-resolution scans.
    """
    first_contrast = next(iter(corrected))[0]
    if grid is None:
        frame_key = (first_contrast, "highres")
        return frame_key, corrected[frame_key]
    frame_key = (first_contrast, "lowres")
    resampled = PointTransform(xfm=np.eye(4)).resample(corrected[frame_key], grid, 3)
    return frame_key, grid.like(np.maximum(resampled, 0))


@frozen
class _Alignment:
    """Frame, brain and point transforms of the scans of one head.

    `frame` defines the grid, on which `brain` are the brain voxels (3D, boolean). `transforms` map
    the frame's points to points of each scan, and `trilinear` replaces them for trilinear
    interpolation of low-resolution scans; it may be empty. `facts` are displacements by scan.
    `to_template` transforms a point of the frame to its template point (4 x 4, RAS+ mm; affine).
    """

    frame: Volume
    brain: Array
    transforms: Mapping[_ScanKey, PointTransform]
    trilinear: Mapping[_ScanKey, PointTransform]
    facts: dict[str, dict[str, float]]
    to_template: Array


def _align_scans(
    corrected: Mapping[_ScanKey, Volume],
    frame_key: _ScanKey,
    frame: Volume,
    brain: Array,
    *,
    align: _Transform,
    align_linear: AlignLinear | None,
    to_template: Array,
    options: AntsOptions,
) -> _Alignment:
    """Align all bias-corrected scans to the frame, which is the scan `frame_key`.

    For the other parameters, see `prepare` and `_Alignment`.
    """
    transforms: dict[_ScanKey, PointTransform] = {frame_key: PointTransform(xfm=np.eye(4))}
    facts: dict[str, dict[str, float]] = {}
    for key, image in corrected.items():
        if key != frame_key:
            name = "_".join(key)
            transforms[key] = _register_to(
                frame,
                image,
                options.extend(f"{name}_"),
                align=align,
                mm=2 * _REGISTRATION_MM if options.sloppy else _REGISTRATION_MM,
            )
            facts[name] = _measure_transform(transforms[key], brain, frame.affine)
    trilinear: dict[_ScanKey, PointTransform] = {}
    if align_linear is not None:
        trilinear = {
            (contrast, resolution): PointTransform(xfm=align_linear(frame, image))
            for (contrast, resolution), image in corrected.items()
            if resolution == "lowres"
        }
    for (contrast, resolution), transform in trilinear.items():
        facts[f"{contrast}_{resolution}_trilinear"] = _measure_transform(
            transform, brain, frame.affine
        )
    return _Alignment(
        frame=frame,
        brain=brain,
        transforms=transforms,
        trilinear=trilinear,
        facts=facts,
        to_template=to_template,
    )


def _register_to(
    frame: Volume, image: Volume, options: AntsOptions, *, align: _Transform, mm: float
) -> PointTransform:
    """Register a scan to the frame by a rigid transform, then by an affine and a nonlinear one.

    `frame` is bias corrected, and `image` is a scan of the same head (both 3D). The sequence ends
    with the type `align`. `mm` is the voxel size for registration; larger voxels are not
    resampled. Returns the transform of the frame's points to points of the scan.
    """
    pair = _RegisteredPair.downsample(frame, image, mm)
    xfm = pair.register_rigid(options)
    if align == "rigid":
        return PointTransform(xfm=pair.map_frame(xfm))
    xfm = pair.register_affine(xfm, options.extend("affine_"))
    if align == "affine":
        return PointTransform(xfm=pair.map_frame(xfm))
    warp_file = pair.register_nonlinear(xfm, options.extend("syn_"))
    return point_transform_from_composite(frame, pair.map_frame(xfm), warp_file)


@frozen
class _RegisteredPair:
    """Frame and scan at the resolution of the registration.

    The image with larger voxels is the `fixed` image; `is_swapped` states whether this is the
    scan. `heads` are masks of the fixed and the moving image (3D, boolean).
    """

    fixed: Volume
    moving: Volume
    heads: tuple[Array, Array]
    is_swapped: bool

    @staticmethod
    def downsample(frame: Volume, image: Volume, mm: float) -> "_RegisteredPair":
        """Return frame and scan with voxels of at least `mm`."""
        low_frame, low_image = downsample(frame, mm), downsample(image, mm)
        is_swapped = bool(np.prod(low_image.zooms) > _EQUAL_VOLUMES * np.prod(low_frame.zooms))
        fixed, moving = (low_image, low_frame) if is_swapped else (low_frame, low_image)
        return _RegisteredPair(
            fixed=fixed,
            moving=moving,
            heads=(
                masks.head_mask(fixed.data, fixed.affine),
                masks.head_mask(moving.data, moving.affine),
            ),
            is_swapped=is_swapped,
        )

    def map_frame(self, xfm: Array) -> Array:
        """Return the transform of the frame's points for one of the fixed image's points."""
        return invert(xfm) if self.is_swapped else xfm

    def register_rigid(self, options: AntsOptions) -> Array:
        """Return the rigid transform of the fixed image's points."""
        return register_rigid(self.fixed, self.moving, *self.heads, options).xfm

    def register_affine(self, start: Array, options: AntsOptions) -> Array:
        """Return the affine transform of the fixed image's points."""
        stages = linear_stages("Affine", float(self.fixed.zooms.min()))
        return read_linear(self._register(stages, start, options)[0])

    def register_nonlinear(self, start: Array, options: AntsOptions) -> Path:
        """Return the file of the nonlinear transform of the frame's points."""
        voxel_mm = float(self.fixed.zooms.min())
        stage = RegistrationStage(
            transform="SyN[0.1,3,0]",
            iterations=(40, 20),
            shrink=(2, 1),
            mm=(voxel_mm, 0.5 * voxel_mm),
        )
        forward_file, inverse_file = self._register([stage], start, options)
        return inverse_file if self.is_swapped else forward_file

    def _register(
        self, stages: Sequence[RegistrationStage], start: Array, options: AntsOptions
    ) -> Sequence[Path]:
        """Run stages of a registration, and return the files of the transform."""
        return register(
            self.fixed,
            self.moving,
            stages,
            options,
            start=start,
            fixed_mask=dilate_for_metric(self.heads[0], self.fixed),
        )


def _move_to_template(
    alignment: _Alignment,
    template: Volume,
    template_mask: Array,
    template_to_head: Array,
    *,
    transform: _Transform,
    options: AntsOptions,
) -> _Alignment:
    """Replace the frame by the cropped grid of the template.

    `template_to_head` is the transform of a template point to its point in the frame (4 x 4, RAS+
    mm). For the other parameters, see `align_to_template`.
    """
    frame, brain = alignment.frame, alignment.brain
    grid = template_grid(template, template_mask, frame)
    to_frame = align_to_template(
        frame,
        brain,
        template,
        template_mask,
        template_to_head,
        transform=transform,
        grid=grid,
        options=options,
    )
    resampled_brain = to_frame.resample(
        frame.like(brain.astype(np.float32)), grid, 1, zero_outside=True
    )
    template_facts = _measure_transform(to_frame, template_mask, template.affine)
    # percentage of the brain outside the grid; only the linear part of the transform is used
    points = apply_affine(invert(to_frame.xfm), voxel_centers(brain, frame.affine, _POINT_STEP))
    voxels = apply_affine(invert(grid.affine), points)
    outside = (voxels < -0.5) | (voxels > np.subtract(grid.data.shape, 0.5))
    cropped_percent = round(100 * float(outside.any(axis=1).mean()), 3)
    template_facts["brain_cropped_percent"] = cropped_percent
    return _Alignment(
        frame=grid,
        brain=resampled_brain > 0.5,
        transforms=_compose_all(grid, to_frame, alignment.transforms),
        trilinear=_compose_all(grid, to_frame, alignment.trilinear),
        facts={**alignment.facts, "template": template_facts},
        to_template=np.eye(4),
    )


def _choose_voxels(
    alignment: _Alignment, extraction: Extraction, corrected_mask: ExtractBrain | None
) -> tuple[_Alignment, Array]:
    """Return the voxels to keep (3D, boolean), and the alignment with the brain among them."""
    if corrected_mask is not None:
        kept = corrected_mask(alignment.frame)
        brain = kept if extraction == "brain" else alignment.brain & kept
        return replace(alignment, brain=brain), kept
    if extraction == "brain":
        return alignment, alignment.brain
    grown = masks.grow(alignment.brain, alignment.frame.affine, _INTRACRANIAL_MM)
    return alignment, grown


def _measure_transform(
    point_transform: PointTransform, mask: Array, affine: Array
) -> dict[str, float]:
    """Measure the rigid, scaling and nonlinear parts of a point transform in the brain, by name.

    `mask` (3D, boolean) are the brain voxels of an image with the matrix `affine`.
    """
    points = voxel_centers(mask, affine, _POINT_STEP)
    rigid_part = nearest_rigid(point_transform.xfm)
    rigid_part[:3, 3] += (
        apply_affine(point_transform.xfm, points) - apply_affine(rigid_part, points)
    ).mean(axis=0)
    facts = displacement_summary(rigid_part, mask, affine)
    scales = 100 * (np.linalg.svd(point_transform.xfm[:3, :3], compute_uv=False) - 1)
    if np.abs(scales).max() > 1e-3:
        facts |= {
            "stretch_percent": round(float(scales.max()), 3),
            "shrink_percent": round(float(scales.min()), 3),
            "affine_rms_mm": round(rms_distance(rigid_part, point_transform.xfm, points), 4),
        }
    if point_transform.displacement is not None:
        distances = np.linalg.norm(
            point_transform.map_points(points) - apply_affine(point_transform.xfm, points), axis=1
        )
        facts |= {
            "warp_rms_mm": round(float(np.sqrt((distances**2).mean())), 4),
            "warp_max_mm": round(float(distances.max()), 4),
        }
    return facts


def _compose_all(
    grid: Volume, to_frame: PointTransform, transforms: Mapping[_ScanKey, PointTransform]
) -> dict[_ScanKey, PointTransform]:
    """Return the transforms from points of a grid, via the frame, to points of each scan."""
    return {key: compose(grid, to_frame, to_scan) for key, to_scan in transforms.items()}


def _interpolate_scans(
    corrected: Mapping[_ScanKey, Volume],
    alignment: _Alignment,
    extraction_mask: Array,
    interpolations: Sequence[str],
    scale: IntensityScaling,
    crop_factor: Factor | None,
) -> _PreparedContrasts:
    """Interpolate all scans to the grid of the frame, each once, and scale them to [0, 1].

    `corrected` are bias-corrected scans by contrast and resolution. Percentiles and means are
    computed in the brain of `alignment`, and the range in the voxels to keep, `extraction_mask`
    (3D, boolean). `interpolations` are the names of interpolations of low-resolution scans.
    `crop_factor` is the factor of the k-space crop that simulates low-resolution scans; None for
    measured scans.
    """
    highres: dict[str, Array] = {}
    lowres: dict[str, dict[str, Array]] = {name: {} for name in interpolations}
    units: dict[str, float] = {}
    for contrast in dict.fromkeys(contrast for contrast, _ in corrected):
        images = _interpolate_contrast(contrast, corrected, alignment, interpolations)
        if crop_factor is not None:
            images |= _simulate_lowres(images["highres"], crop_factor, interpolations)
        image_units = _choose_units(images, alignment.brain, extraction_mask, scale)
        units[contrast] = image_units["bspline" if "bspline" in images else "highres"]
        for name, data in images.items():
            scaled = _scale_intensities(data, image_units[name], extraction_mask)
            (highres if name == "highres" else lowres[name])[contrast] = scaled
    return _PreparedContrasts(
        highres=highres,
        lowres=lowres,
        mask=extraction_mask,
        brain=alignment.brain,
        affine=alignment.frame.affine,
        units=units,
        facts=alignment.facts,
        to_template=alignment.to_template,
    )


def _interpolate_contrast(
    contrast: str,
    corrected: Mapping[_ScanKey, Volume],
    alignment: _Alignment,
    interpolations: Sequence[str],
) -> dict[str, Array]:
    """Interpolate the scans of a contrast to the grid of the frame.

    Returns the high-resolution scan as ``highres``, and the low-resolution scan by the name of the
    interpolation; scans that do not exist are missing.
    """
    images: dict[str, Array] = {}
    highres_key, lowres_key = (contrast, "highres"), (contrast, "lowres")
    if highres_key in corrected:
        transform = alignment.transforms[highres_key]
        images["highres"] = transform.resample(corrected[highres_key], alignment.frame, 3)
    if lowres_key in corrected:
        transform = alignment.transforms[lowres_key]
        trilinear = alignment.trilinear.get(lowres_key, transform)
        for name in interpolations:
            order = parse_series_name(name).order
            assert order is not None, f"{name} cannot interpolate points"
            images[name] = (trilinear if name == "linear" else transform).resample(
                corrected[lowres_key], alignment.frame, order
            )
    return images


def _simulate_lowres(
    highres: Array, crop_factor: Factor, interpolations: Sequence[str]
) -> dict[str, Array]:
    """Keep the center of k-space of a scan (3D), and interpolate the result by several kernels.

    Source: gan-cpce-circle, section "Low-resolution images".
    """
    lowres_shape = tuple(
        math.ceil(n / ratio) for n, ratio in zip(highres.shape, crop_factor, strict=True)
    )
    lowres = downsample_kspace(highres, lowres_shape)
    return {name: interpolate(name, lowres, highres.shape) for name in interpolations}


def _choose_units(
    images: Mapping[str, Array], brain: Array, extraction_mask: Array, scale: IntensityScaling
) -> dict[str, float]:
    """Return the intensity that is scaled to 1, for each image of `_interpolate_contrast`."""
    if scale == "range":
        return {name: maximum_intensity(data, extraction_mask) for name, data in images.items()}
    if "bspline" not in images:
        return {"highres": unit_range(images["highres"], brain)[1]}
    _, lowres_unit = unit_range(images["bspline"], brain)
    units = dict.fromkeys(images, lowres_unit)
    if "highres" in images:
        lowres = _scale_intensities(images["bspline"], lowres_unit, extraction_mask)
        units["highres"] = _compute_highres_unit(images["highres"], lowres, brain)
    return units


def maximum_intensity(data: Array, mask: Array) -> float:
    """Return the largest intensity of an extracted scan, which is scaled to 1.

    The smallest intensity is 0, outside the mask; negative values of splines are set to 0. A
    single bright vessel can determine the maximum. The linear normalization is described in
    attention_unet, section 3.1.

    `data` is in any unit (3D). `mask` marks the voxels to keep (3D, boolean): the brain or the
    intracranial volume. Raises `ValueError` if the scan has no positive intensities in the mask.
    """
    maximum = float(data[mask].max()) if mask.any() else 0.0
    if not np.isfinite(maximum) or maximum <= 0:
        raise ValueError("the scan has no positive intensities inside the brain mask")
    return maximum


def _scale_intensities(data: Array, unit: float, mask: Array) -> Array:
    """Divide intensities by `unit`, clip them to [0, 1], and set voxels outside the mask to 0."""
    return np.where(mask, np.clip(data / np.float32(unit), 0, 1), 0).astype(np.float32)


def _compute_highres_unit(highres: Array, lowres: Array, brain: Array) -> float:
    """Return the high-resolution intensity that is scaled to 1.

    With this intensity, both scans have the same brain mean. `lowres` is already scaled.

    The percentile of each scan is not suitable. Averaging over larger voxels lowers it, so
    interpolation would score worse than a network only because of a scaling factor. Raises
    `ValueError` if a scan has no positive intensities in the brain.
    """
    highres_mean = float(np.maximum(highres[brain], 0).mean())
    lowres_mean = float(lowres[brain].mean())
    if not highres_mean > 0 or not lowres_mean > 0:
        raise ValueError("the scan has no positive intensities inside the brain mask")
    return highres_mean / lowres_mean
