"""Plots as SVG, written by hand: one series of points with their spread, or groups of bars."""
import math
from html import escape

from .common import ROOT, Spread

OUT = ROOT / "target" / "bench"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 420, 80, 40, 50, 60
COLOURS = ["#1b6ca8", "#d1711c", "#4f8f3a", "#8a4f9e"]


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#bbb", more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def picture(name: str, title: str, parts: list[str], height: int = HEIGHT) -> str:
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
            ' font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>')
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text("\n".join([head, text(WIDTH / 2, 22, title, size=14), *parts, "</svg>"]) + "\n")
    return name


def growth(points: list[tuple[int, Spread]]) -> str:
    """Nanoseconds over multiply-accumulates, both logarithmic, with the line through the last point."""
    decades_x = (math.floor(math.log10(points[0][0])), math.ceil(math.log10(points[-1][0]) + 0.05))
    decades_y = (math.floor(math.log10(points[0][1].low)), math.ceil(math.log10(points[-1][1].high)))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return LEFT + (math.log10(value) - decades_x[0]) / (decades_x[1] - decades_x[0]) * (right - LEFT)

    def y(value: float) -> float:
        return bottom - (math.log10(value) - decades_y[0]) / (decades_y[1] - decades_y[0]) * (bottom - TOP)

    parts = []
    for decade in range(decades_x[0], decades_x[1] + 1):
        parts += [line(x(10**decade), TOP, x(10**decade), bottom), text(x(10**decade), bottom + 18, f"{10**decade:,}")]
    for decade in range(decades_y[0], decades_y[1] + 1):
        parts += [line(LEFT, y(10**decade), right, y(10**decade)), text(LEFT - 6, y(10**decade) + 4, f"{10**decade:,}", "end")]
    parts += [text(WIDTH / 2, HEIGHT - 14, "multiply-accumulates"), text(LEFT - 6, TOP - 8, "ns", "end")]
    slope = points[-1][1].median / points[-1][0]
    first = max(points[0][0], 10 ** decades_y[0] / slope)
    parts.append(line(x(first), y(first * slope), x(points[-1][0]), y(points[-1][1].median), "#888", 'stroke-dasharray="5 4"'))
    for count, time in points:
        parts.append(line(x(count), y(time.low), x(count), y(time.high), COLOURS[0], 'stroke-width="2"'))
        parts.append(f'<circle cx="{x(count):.1f}" cy="{y(time.median):.1f}" r="4" fill="{COLOURS[0]}"/>')
    return picture("growth.svg", "Inference, less the empty program; dashed: linear", parts)


def bars(name: str, title: str, unit: str, groups: list[str], series: dict[str, list[Spread]]) -> str:
    """A group of bars for each name, one bar of each series in it, with its spread."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    highest = max((spread.high for spreads in series.values() for spread in spreads), default=1) or 1
    step = 10 ** math.floor(math.log10(highest))
    step = step / 4 if highest < 3 * step else step
    parts = []
    mark = 0.0
    while mark <= highest:
        height = bottom - mark / highest * (bottom - TOP)
        parts += [line(LEFT, height, right, height), text(LEFT - 6, height + 4, f"{mark:g}", "end")]
        mark += step
    slot = (right - LEFT) / max(len(groups), 1)
    width = slot * 0.8 / max(len(series), 1)
    for which, (label, spreads) in enumerate(series.items()):
        colour = COLOURS[which % len(COLOURS)]
        for group, spread in enumerate(spreads):
            left = LEFT + group * slot + slot * 0.1 + which * width
            scale = (bottom - TOP) / highest
            parts.append(f'<rect x="{left:.1f}" y="{bottom - spread.median * scale:.1f}" width="{width * 0.9:.1f}" '
                         f'height="{spread.median * scale:.1f}" fill="{colour}"/>')
            middle = left + width * 0.45
            parts.append(line(middle, bottom - spread.low * scale, middle, bottom - spread.high * scale, "#222"))
        parts += [f'<rect x="{LEFT + which * 150}" y="{HEIGHT - 20}" width="10" height="10" fill="{colour}"/>',
                  text(LEFT + which * 150 + 16, HEIGHT - 11, label, "start")]
    parts += [text(LEFT + (index + 0.5) * slot, bottom + 18, group) for index, group in enumerate(groups)]
    parts.append(text(LEFT - 6, TOP - 8, unit, "end"))
    return picture(name, title, parts)
