"""Checks of settings that name an atlas and its labels: `atlas`, `roi` and `seeds`."""

from bids_sr.config.seeds import COMPONENTS, PREDEFINED, parse_seed
from bids_sr.config.values import SettingError, suggest_name
from bids_sr.io import region_names
from bids_sr.io.notices import UsageError


def check_regions(atlas: str, rois: tuple[str, ...], seeds: tuple[str, ...]) -> None:
    """Reject a missing atlas, and regions of interest and seeds that it does not contain.

    AAL2 is only searched when it is needed.
    """
    try:
        if not region_names.is_aal2(atlas):
            region_names.find_atlas(atlas)
    except UsageError as error:
        notice = error.notice
        raise SettingError("activation.atlas", atlas, notice.why, notice.remedy) from error
    for roi in rois:
        _check_roi(roi, atlas)
        if len(rois) > 1 and roi in (region_names.AUTO, region_names.BRAIN):
            reason = f"{roi} cannot be combined with other regions"
            fix = f"specify {roi}, or the other regions without {roi}"
            raise SettingError("activation.roi", " ".join(rois), reason, fix)
    for text in seeds if seeds != (COMPONENTS,) else ():
        try:
            parse_seed(text, atlas)
        except ValueError as error:
            fix = suggest_name(text, (*PREDEFINED, *region_names.atlas_labels(atlas)))
            raise SettingError("activation.seeds", text, str(error), fix) from error


def _check_roi(roi: str, atlas: str) -> None:
    """Reject a region of interest that is neither a file nor in the atlas."""
    try:
        region_names.region_labels(roi, atlas)
    except region_names.UnknownRegion as error:
        groups = tuple(region_names.GROUPS) if region_names.is_aal2(atlas) else ()
        choices = ", ".join(["auto", "brain", *groups, f"labels of {atlas}"])
        reason = f"{error} is not a known region; expected {choices}, or a mask file"
        if not groups and error.name in region_names.GROUPS:
            reason = (
                f"{error} is a group of AAL2 labels, but the selected atlas is {atlas}; expected"
                f" {choices}, or a mask file"
            )
        names = (*groups, "brain", *region_names.atlas_labels(atlas))
        fix = (
            suggest_name(error.name, names)
            or "specify a mask file including its directory, such as ./mask.nii.gz"
        )
        raise SettingError("activation.roi", roi, reason, fix) from error
