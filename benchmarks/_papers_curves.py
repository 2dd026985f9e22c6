"""Learning curves of `papers.py`: stored values, and a figure drawn from the stored values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import _table
from _papers_portions import Curve

FIGURES = _table.HERE.parent / "docs" / "figures"
ANY_STEP = "any"
WIDTH, HEIGHT = 190, 150  # of a panel's axes, pixels
LEFT, TOP, GAP = 44, 26, 56  # margins, pixels
COLORS = ("#1b6ca8", "#c1440e", "#2e7d32", "#7b3fa0", "#8d6e00")
GRAYS = (("#222", "2 3"), ("#777", "6 3"), ("#aaa", "1 2"))
CHARACTER = 6.2  # mean width of a character, pixels


@dataclass(frozen=True)
class Panel:
    """Curves of one figure panel, and PSNR of interpolations (dB), by name."""

    title: str
    curves: Mapping[str, Curve]
    lines: Mapping[str, float]


def keep_curves(name: str, title: str, panels: Sequence[Panel], remark: str) -> None:
    """Store the values of curves as table `curves_NAME`, and draw them."""
    rows = []
    for panel in panels:
        for network, curve in panel.curves.items():
            rows += [
                {"panel": panel.title, "series": network, "step": step, "PSNR (dB)": round(v, 3)}
                for step, v in sorted(curve.items())
            ]
        rows += [
            {"panel": panel.title, "series": line, "step": ANY_STEP, "PSNR (dB)": round(value, 3)}
            for line, value in panel.lines.items()
        ]
    _table.keep(f"curves_{name}", title, rows, remarks=[remark])
    figure_path(f"curves_{name}").write_text(draw(stored_panels(f"curves_{name}")))


def redraw() -> None:
    """Draw the figures of all stored curves again."""
    for file in sorted(_table.RESULTS.glob("curves_*.json")):
        figure_path(file.stem).write_text(draw(stored_panels(file.stem)))


def figure_path(name: str) -> Path:
    """Return the file of a figure."""
    return FIGURES / f"papers_{name}.svg"


def stored_panels(name: str) -> list[Panel]:
    """Return the panels of a stored table of curves."""
    rows = json.loads((_table.RESULTS / f"{name}.json").read_text())["rows"]
    panels = {}
    for row in rows:
        panel = panels.setdefault(row["panel"], Panel(row["panel"], {}, {}))
        assert isinstance(panel.curves, dict)
        assert isinstance(panel.lines, dict)
        if row["step"] == ANY_STEP:
            panel.lines[row["series"]] = row["PSNR (dB)"]
        else:
            panel.curves.setdefault(row["series"], {})[row["step"]] = row["PSNR (dB)"]
    return list(panels.values())


def draw(panels: Sequence[Panel]) -> str:
    """Return panels side by side as SVG, with a legend below."""
    networks = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    lines = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colors = dict(zip(networks, COLORS, strict=False))
    grays = dict(zip(lines, GRAYS, strict=False))
    parts: list[str] = []
    for number, panel in enumerate(panels):
        parts += _panel(panel, LEFT + number * (WIDTH + GAP), colors, grays)
    x, y = float(LEFT), TOP + HEIGHT + 54
    total = len(panels) * (WIDTH + GAP) + LEFT - GAP + 16
    for name in (*networks, *lines):
        label = name if name in colors else f"{name} (any step)"
        length = 30 + CHARACTER * len(label) + 14
        if x + length > total and x > LEFT:
            x, y = float(LEFT), y + 18
        style = _style(name, colors, grays)
        parts.append(f'<path d="M{x:.0f} {y - 4}h22" {style}/>')
        parts.append(f'<text x="{x + 28:.0f}" y="{y}">{escape(label)}</text>')
        x += length
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {max(total, 420)} {y + 12}"'
        f' width="{max(total, 420)}" font-family="sans-serif" font-size="11" fill="#222">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _style(name: str, colors: Mapping[str, str], grays: Mapping[str, tuple[str, str]]) -> str:
    """Return the stroke of a network's curve or of an interpolation's line."""
    if name in colors:
        return f'fill="none" stroke="{colors[name]}" stroke-width="1.8"'
    color, dashes = grays[name]
    return f'fill="none" stroke="{color}" stroke-width="1.3" stroke-dasharray="{dashes}"'


def _panel(
    panel: Panel, left: int, colors: Mapping[str, str], grays: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Return the elements of one panel."""
    values = [v for curve in panel.curves.values() for v in curve.values()]
    values += panel.lines.values()
    low, high = min(values), max(values)
    margin = 0.06 * (high - low or 1.0)
    low, high = low - margin, high + margin
    last = max((step for curve in panel.curves.values() for step in curve), default=1)

    def place(step: float, value: float) -> tuple[float, float]:
        return left + WIDTH * step / last, TOP + HEIGHT * (high - value) / (high - low)

    out = [
        f'<text x="{left}" y="{TOP - 10}" font-weight="bold">{escape(panel.title)}</text>',
        f'<text x="{left + WIDTH}" y="{TOP - 10}" text-anchor="end">PSNR (dB)</text>',
        f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none"'
        ' stroke="#bbb"/>',
        f'<text x="{left + WIDTH / 2:.0f}" y="{TOP + HEIGHT + 30}" text-anchor="middle">'
        "training steps</text>",
    ]
    for step in (0, last // 2, last):
        x, _ = place(step, low)
        out.append(
            f'<text x="{x:.0f}" y="{TOP + HEIGHT + 15}" text-anchor="middle">{step:,}</text>'
        )
    for k in range(4):
        value = low + margin + k * (high - low - 2 * margin) / 3
        _, y = place(0, value)
        out.append(f'<text x="{left - 5}" y="{y + 4:.0f}" text-anchor="end">{value:.1f}</text>')
    for name, value in panel.lines.items():
        _, y = place(0, value)
        out.append(f'<path d="M{left} {y:.1f}h{WIDTH}" {_style(name, colors, grays)}/>')
    for name, curve in panel.curves.items():
        points = " ".join(
            "{:.1f},{:.1f}".format(*place(step, value)) for step, value in sorted(curve.items())
        )
        out.append(f'<polyline points="{points}" {_style(name, colors, grays)}/>')
    return out
