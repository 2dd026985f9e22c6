"""Compact and reproducible SVG files of figures."""

import base64
import io
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from bids_sr.io import atomic_files
from bids_sr.report.figures.canvas import DARK, FLICKER, style

# gray images with more pixels (anatomy, carpets) are JPEG, at a fifth to 60 % of the size;
# maps are lossless
_MIN_JPEG_PIXELS, _JPEG_QUALITY = 3_000, 88
# fonts of the text in a figure; layout is computed with the first font
_FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
_FLICKER_CSS = (
    "<style>@keyframes f{0%,49%{opacity:1}50%,100%{opacity:0}}svg:hover"
    f" [id^={FLICKER}],svg:focus [id^={FLICKER}]{{animation:f 1.4s step-end infinite}}@media"
    " (prefers-reduced-motion:reduce){svg"
    f" [id^={FLICKER}]{{animation-duration:4s!important}}}}</style>"
)
_PAPER_CSS = (
    f"<style class='paper'>image{{{{image-rendering:pixelated}}}}text{{{{font-family:{_FONTS}}}}}"
    "svg{{background:{}}}"
    "@media screen and (prefers-color-scheme:dark){{svg{{background:{}}}{}}}</style>"
)
_LONG_NUMBER = re.compile(r"(-?\d+\.\d)\d+")
_LINE_BREAK = re.compile(r"\s*\n\s*")
_BETWEEN_ELEMENTS = re.compile(r">\s*\n\s*<")
# attributes of elements that have no effect or are in the CSS
_SUPERFLUOUS = re.compile(
    r' style="image-rendering:crisp-edges;image-rendering:pixelated"'
    r"| font-family: 'DejaVu Sans';"
    r'| transform="rotate\(-0 [^"]*"'
)
_STRAIGHT_PATH = re.compile(r'd="(?:[MLz][-\d. ]*)+"')
_PATH_COMMAND = re.compile(r"([ML]) (-?[\d.]+) (-?[\d.]+) ?|(z)")
_PNG_DATA = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")
_IMAGE_ELEMENT = re.compile(
    r'<image xlink:href="(?P<data>data:image/[^"]*)" id="(?P<id>[^"]*)"(?P<rest>[^>]*)/>'
)


def save_figure(fig: Figure, path: Path) -> Path:
    """Write a figure as SVG or PNG (150 dpi on white), according to the file extension."""
    if path.suffix == ".svg":
        return save_svg(fig, path)
    buffer = io.BytesIO()
    with style():
        fig.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return atomic_files.write_bytes(path, buffer.getvalue())


def save_svg(fig: Figure, path: Path) -> Path:
    """Write a figure as SVG, see `svg_text`."""
    return atomic_files.write_text(path, svg_text(fig))


def svg_text(fig: Figure) -> str:
    """Return a figure as SVG text; equal figures give equal text.

    The text begins with the declaration and the ``<svg`` tag on one line. It does not set a width,
    so that the figure scales. Text remains text, images are embedded as pixels, and repeated
    images are stored once. Colors of paper, text and lines follow the light or dark mode of the
    page. The label of the figure becomes the title for screen readers. Artists whose id begins
    with ``flicker`` blink while the pointer or the keyboard focus is on the figure.
    """
    buffer = io.StringIO()
    metadata: dict[str, str | None] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    if fig.get_label():
        metadata["Title"] = str(fig.get_label())
    with style():
        fig.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    start = text.index("<svg")
    head, body = text[start : text.index(">", start) + 1], text[text.index(">", start) + 1 :]
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r' d="[^"]*"', lambda match: _shorten_path(_LINE_BREAK.sub("", match[0])), body)
    body = _deduplicate_images(_PNG_DATA.sub(lambda match: compress_image(match[1]), body))
    body = _BETWEEN_ELEMENTS.sub("><", _SUPERFLUOUS.sub("", body))
    body = _paper_css() + body.replace("'DejaVu Sans'", _FONTS)
    if FLICKER in body:
        head, body = head[:-1] + ' tabindex="0">', _FLICKER_CSS + body
    return '<?xml version="1.0" encoding="utf-8" standalone="no"?>' + head + body


def _shorten_path(path: str) -> str:
    """Shorten a path of straight lines by relative coordinates, to about half of its length.

    Paths with curves keep absolute coordinates.
    """
    rounded_path = _LONG_NUMBER.sub(r"\1", path)
    if not _STRAIGHT_PATH.fullmatch(rounded_path.strip()):
        return rounded_path
    commands: list[str] = []
    last_x, last_y = 0, 0  # tenths of a point
    for command, x_text, y_text, close in _PATH_COMMAND.findall(rounded_path):
        if close:
            commands.append("z")
            continue
        x, y = round(10 * float(x_text)), round(10 * float(y_text))
        if command == "M":
            commands.append(f"M{x / 10:g} {y / 10:g}")
        else:
            commands.append(f"l{(x - last_x) / 10:g} {(y - last_y) / 10:g}")
        last_x, last_y = x, y
    return f' d="{"".join(commands).replace(" -", "-")}"'


def _deduplicate_images(body: str) -> str:
    """Return the SVG with repeated images replaced by references to their first occurrence.

    The position of each image is set by a group around it, because a reference would inherit the
    position of the first occurrence.
    """
    id_by_image: dict[tuple[str, str], str] = {}

    def replace_image(match: re.Match[str]) -> str:
        transforms = re.findall(r'\s*transform="[^"]*"', match["rest"])
        attributes = re.sub(r'\s*transform="[^"]*"', "", match["rest"])
        first_id = id_by_image.get((match["data"], attributes))
        if first_id is None:
            id_by_image[match["data"], attributes] = match["id"]
            element = f'<image xlink:href="{match["data"]}" id="{match["id"]}"{attributes}/>'
        else:  # matplotlib gives equal images equal ids
            id_attribute = "" if first_id == match["id"] else f' id="{match["id"]}"'
            element = f'<use xlink:href="#{first_id}"{id_attribute}/>'
        return f"<g{''.join(transforms)}>{element}</g>"

    return _IMAGE_ELEMENT.sub(replace_image, body)


@lru_cache(maxsize=512)  # Backgrounds of maps occur in the figures of all contrasts.
def compress_image(encoded: str) -> str:
    """Return a data URI of the same image in fewer bytes.

    The format is PNG with gray values or with a palette of up to 256 colors, or JPEG for large
    gray images. Images with more colors are returned unchanged.
    """
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        pixels = np.ascontiguousarray(image.convert("RGBA"))
    # Level 9 takes six times as long and saves 1 %.
    image_format, options = "png", {"compress_level": 6}
    if (pixels[..., 3] == 255).all() and (pixels[..., :2] == pixels[..., 1:3]).all():
        gray_image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
        if pixels[..., 0].size > _MIN_JPEG_PIXELS:
            image_format = "jpeg"
            options = {"quality": _JPEG_QUALITY, "optimize": True}
    else:
        values = pixels.view(np.uint32).reshape(pixels.shape[:2])
        colors = np.unique(values)
        if len(colors) > 256:
            return "data:image/png;base64," + encoded
        # Searching is faster than the inverse of `unique`, which sorts all pixels.
        color_index = np.searchsorted(colors, values).astype(np.uint8)
        gray_image = Image.fromarray(color_index, mode="P")
        gray_image.putpalette(colors.tobytes(), "RGBA")
    buffer = io.BytesIO()
    gray_image.save(buffer, format=image_format, **options)
    return f"data:image/{image_format};base64," + base64.b64encode(buffer.getvalue()).decode(
        "ascii"
    )


def _paper_css() -> str:
    """Return the CSS that adapts a figure to a light or dark page."""
    (light, dark), *color_pairs = DARK.items()
    rules = [
        f"[style*='{attribute}: {light_color}']{{{attribute}:{dark_color}!important}}"
        for light_color, dark_color in color_pairs
        for attribute in ("fill", "stroke")
    ]
    return _PAPER_CSS.format(light, dark, "".join(rules))
