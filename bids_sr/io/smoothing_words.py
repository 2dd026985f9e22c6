"""Smoothing of a value in words: of the series before super-resolution, and of its maps."""

import math


def smoothing_choice(fwhm_mm: float, input_fwhm_mm: float) -> str:
    """Return the smoothing of maps, and of their series before super-resolution, as a short name.

    The viewer of the maps finds maps by this name. Both are FWHM in mm.

    >>> smoothing_choice(0, 0), smoothing_choice(5, 0), smoothing_choice(5, 13.2)
    ('none', '5 mm', '5 mm, 13.2 mm before super-resolution')
    """
    widths = [f"{fwhm_mm:g} mm"] if fwhm_mm else []
    if input_fwhm_mm > 0:
        widths.append(f"{input_fwhm_mm:g} mm before super-resolution")
    return ", ".join(widths) or "none"


def smoothing_text(fwhm_mm: float, input_fwhm_mm: float) -> str:
    """Return the smoothing of maps, and of the series before super-resolution, in words.

    Both are FWHM in mm. Tables of earlier versions do not contain the smoothing before
    super-resolution, which is then NaN (unknown).

    >>> smoothing_text(0, 0), smoothing_text(0, 13.2)
    ('not smoothed', 'smoothed with a 13.2 mm FWHM kernel before super-resolution')
    >>> smoothing_text(5, 13.2)
    'smoothed with a 5 mm FWHM kernel, and with 13.2 mm before super-resolution'
    >>> smoothing_text(0, math.nan)
    'not smoothed (smoothing before super-resolution unknown)'
    """
    text = f"smoothed with a {fwhm_mm:g} mm FWHM kernel" if fwhm_mm else "not smoothed"
    if math.isnan(input_fwhm_mm):
        return f"{text} (smoothing before super-resolution unknown)"
    if not input_fwhm_mm:
        return text
    if not fwhm_mm:
        return f"smoothed with a {input_fwhm_mm:g} mm FWHM kernel before super-resolution"
    return f"{text}, and with {input_fwhm_mm:g} mm before super-resolution"
