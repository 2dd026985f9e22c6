"""Figures as SVG files that are small and reproducible."""

import base64
import io
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from bids_sr.figures.canvas import DARK, FLICKER, style
from bids_sr.io import atomic_files

_MANY_PIXELS, _JPEG_QUALITY = 15_000, 88
"""Gray images of more pixels than this (anatomy, carpets) are JPEG, a fifth of the size; maps stay
lossless.
"""
_FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
"""Of the text of a figure, which is measured with the first."""
_FLICKER_CSS = (
    "<style>@keyframes f{0%,49%{opacity:1}50%,100%{opacity:0}}svg:hover"
    f" [id^={FLICKER}],svg:focus [id^={FLICKER}]{{animation:f 1.4s step-end infinite}}@media"
    " (prefers-reduced-motion:reduce){svg"
    f" [id^={FLICKER}]{{animation-duration:4s!important}}}}</style>"
)
_PAPER_CSS = (
    "<style class='paper'>svg{{background:{}}}"
    "@media screen and (prefers-color-scheme:dark){{svg{{background:{}}}{}}}</style>"
)
_LONG_NUMBER = re.compile(r"(-?\d+\.\d)\d+")
_BREAK = re.compile(r"\s*\n\s*")
_LINES = re.compile(r'd="(?:[MLz][-\d. ]*)+"')
_POINT = re.compile(r"([ML]) (-?[\d.]+) (-?[\d.]+) ?|(z)")
_PNG = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")
_IMAGE = re.compile(
    r'<image xlink:href="(?P<data>data:image/[^"]*)" id="(?P<id>[^"]*)"(?P<rest>[^>]*)/>'
)


def save_svg(fig: Figure, path: Path) -> Path:
    """Write a figure as `svg_text`."""
    return atomic_files.write_whole(path, svg_text(fig))


def save_figure(fig: Figure, path: Path) -> Path:
    """Write a figure as SVG or as PNG (150 dpi on white), by the suffix of the path."""
    if path.suffix == ".svg":
        return save_svg(fig, path)
    buffer = io.BytesIO()
    with style():
        fig.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return atomic_files.write_bytes(path, buffer.getvalue())


def svg_text(fig: Figure) -> str:
    """A figure as SVG: same figure, same text; images stay pixels inside it.

    The text begins with the declaration and the ``<svg`` tag on one line and states no width, so
    that it scales. Text is text, and an image that is drawn many times is there once. Paper, text
    and lines are light or dark as the page is. The figure's label becomes its title, which the
    report reads out to those who cannot see it. Artists with an id that begins with ``flicker``
    blink while the pointer or the focus of the keyboard is on the figure.
    """
    buffer = io.StringIO()
    about: dict[str, str | None] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    if fig.get_label():
        about["Title"] = str(fig.get_label())
    with style():
        fig.savefig(buffer, format="svg", metadata=about)
    text = buffer.getvalue()
    start = text.index("<svg")
    head, body = text[start : text.index(">", start) + 1], text[text.index(">", start) + 1 :]
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r' d="[^"]*"', lambda found: _short_path(_BREAK.sub("", found[0])), body)
    body = _once(_PNG.sub(lambda found: _smaller_image(found[1]), body))
    body = body.replace("'DejaVu Sans'", _FONTS)
    body = _paper_css() + body
    if FLICKER in body:
        head, body = head[:-1] + ' tabindex="0">', _FLICKER_CSS + body
    return '<?xml version="1.0" encoding="utf-8" standalone="no"?>' + head + body


def _paper_css() -> str:
    """Style by which a figure is light or dark as the page is that it stands in."""
    (light, dark), *others = DARK.items()
    rules = [
        f"[style*='{kind}: {old}']{{{kind}:{new}!important}}"
        for old, new in others
        for kind in ("fill", "stroke")
    ]
    return _PAPER_CSS.format(light, dark, "".join(rules))


def _short_path(path: str) -> str:
    """Shorten a path of straight lines to half of its characters by relative points.

    Each point is relative to the one before it; curves are kept as given.
    """
    path = _LONG_NUMBER.sub(r"\1", path)
    if not _LINES.fullmatch(path.strip()):
        return path
    parts, x, y = "", 0, 0
    for command, right, down, end in _POINT.findall(path):
        if end:
            parts += "z"
            continue
        at = round(10 * float(right)), round(10 * float(down))
        move = at if command == "M" else (at[0] - x, at[1] - y)
        parts += ("M" if command == "M" else "l") + " ".join(f"{value / 10:g}" for value in move)
        x, y = at
    return f' d="{parts.replace(" -", "-")}"'


def _once(body: str) -> str:
    """The same SVG, where an image that occurs again is a reference to its first occurrence.

    The place of each is on a group around it, because a reference would bring that of the first
    along.
    """
    first: dict[tuple[str, str], str] = {}

    def reference(match: re.Match[str]) -> str:
        places = re.findall(r'\s*transform="[^"]*"', match["rest"])
        rest = re.sub(r'\s*transform="[^"]*"', "", match["rest"])
        known = first.get((match["data"], rest))
        if known is None:
            first[match["data"], rest] = match["id"]
            drawn = f'<image xlink:href="{match["data"]}" id="{match["id"]}"{rest}/>'
        else:  # matplotlib names equal images alike
            own = "" if known == match["id"] else f' id="{match["id"]}"'
            drawn = f'<use xlink:href="#{known}"{own}/>'
        return f"<g{''.join(places)}>{drawn}</g>"

    return _IMAGE.sub(reference, body)


@lru_cache(maxsize=512)  # the backgrounds of maps are in the figures of all contrasts
def _smaller_image(encoded: str) -> str:
    """Return a URI of the same pixels in fewer bytes.

    It holds gray values, a palette of up to 256 colors, or a JPEG for large gray images.
    """
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        pixels = np.ascontiguousarray(image.convert("RGBA"))
    # level 9 takes six times as long for 1 % fewer bytes
    kind, options = "png", {"compress_level": 6}
    if (pixels[..., 3] == 255).all() and (pixels[..., :2] == pixels[..., 1:3]).all():
        small = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
        if pixels[..., 0].size > _MANY_PIXELS:
            kind = "jpeg"
            options = {"quality": _JPEG_QUALITY, "optimize": True}
    else:
        values = pixels.view(np.uint32).reshape(pixels.shape[:2])
        colors = np.unique(values)
        if len(colors) > 256:
            return "data:image/png;base64," + encoded
        # faster than the inverse of `unique`, which sorts all pixels
        index = np.searchsorted(colors, values).astype(np.uint8)
        small = Image.fromarray(index, mode="P")
        small.putpalette(colors.tobytes(), "RGBA")
    buffer = io.BytesIO()
    small.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
