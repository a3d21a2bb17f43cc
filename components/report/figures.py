"""The plots of a report as inline SVG that takes its colours and its type from the page.

A colour here is a variable of the page's style sheet, so a plot follows the reader's light or dark theme; text stays
text, so that it can be read aloud and searched.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INKS = {
    "#000001": "var(--ink)",
    "#000002": "var(--muted)",
    "#000003": "var(--line)",
    "#000004": "var(--accent)",
    "#000005": "var(--warm)",
    "#000006": "var(--bad)",
}
"""Matplotlib wants real colours: each of these stands for one of the page."""

INK, MUTED, LINE, ACCENT, WARM, BAD = INKS
WIDTH = 9.6  # inches of 72 units
LONGEST_LABEL = 40  # letters beside a line


def recall_by_k(models: dict[str, dict[int, float]], baselines: dict[str, dict[int, float]]) -> str:
    """Recall at each K of each model and count by its title; the models and the strongest count stand out."""
    strongest = max(baselines, key=lambda name: sum(baselines[name].values()))
    depths = sorted(baselines[strongest])
    with _figure(WIDTH, 4.2) as (figure, svg):
        axes = _axes(figure)
        x = np.arange(len(depths))
        lines = {name: (line, ACCENT, 2.6) for name, line in models.items()}
        lines[strongest] = (baselines[strongest], WARM, 1.8)
        lines |= {name: (line, MUTED, 1.0) for name, line in baselines.items() if name != strongest}
        for values, colour, width in reversed(lines.values()):
            axes.plot(x, [values[k] for k in depths], color=colour, linewidth=width, marker="o", markersize=width + 2)
        top = max(max(values.values()) for values, _, _ in lines.values())
        ends = _spread([values[depths[-1]] for values, _, _ in lines.values()], gap=0.062 * top)
        for end, (name, (_, colour, width)) in zip(ends, lines.items(), strict=True):
            weight = "bold" if width > 1 else "normal"
            short = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1].rstrip(" ,") + "…"
            axes.annotate(
                short, (x[-1], end), (9, 0), textcoords="offset points", va="center", color=colour, fontweight=weight
            )
        axes.set_xticks(x, [f"K = {k}" for k in depths])
        axes.set_ylim(0, 1.08 * max(top, *ends))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_ylabel("recall: share of what was bought")
        figure.subplots_adjust(left=0.08, right=0.66, top=0.97, bottom=0.1)
    return svg[0]


def code_usage(counts: Sequence[np.ndarray]) -> str:
    """For each level the items that share a code, most used first; the dashed line is an even spread."""
    with _figure(WIDTH, 2.5) as (figure, svg):
        panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
        for level, (axes, uses) in enumerate(zip(panels, counts, strict=True)):
            _plain(axes)
            ordered = np.sort(uses)[::-1]
            axes.fill_between(np.arange(len(ordered)), ordered, step="mid", color=ACCENT, alpha=0.35, linewidth=0)
            axes.step(np.arange(len(ordered)), ordered, where="mid", color=ACCENT, linewidth=1.4)
            axes.axhline(ordered.mean(), color=MUTED, linewidth=1, dashes=(4, 3))
            used = (uses > 0).mean()
            axes.set_title(f"level {level + 1}: {used:.0%} of {len(uses)} codes used", loc="left", color=INK)
            axes.set_xlabel("codes, most used first")
            axes.set_xlim(0, len(ordered))
        panels[0].set_ylim(0, 1.08 * max(uses.max() for uses in counts))
        panels[0].set_ylabel("items a code")
        figure.subplots_adjust(left=0.08, right=0.99, top=0.87, bottom=0.2, wspace=0.12)
    return svg[0]


def training_loss(step: np.ndarray, loss: np.ndarray, tokens_per_second: np.ndarray) -> str:
    """The loss of each logged step with its smoothed course, and the speed below."""
    from matplotlib.ticker import MaxNLocator

    smooth = _smoothed(loss)
    with _figure(WIDTH, 3.6) as (figure, svg):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for axes in (upper, lower):
            _plain(axes)
            axes.margins(x=0)
        upper.plot(step, loss, color=ACCENT, alpha=0.3, linewidth=1)
        upper.plot(step, smooth, color=ACCENT, linewidth=2.2)
        upper.annotate(
            f"{smooth[-1]:.2f}",
            (step[-1], smooth[-1]),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=ACCENT,
            fontweight="bold",
        )
        upper.set_ylabel("loss, nats a token")
        lower.plot(step, tokens_per_second, color=MUTED, linewidth=1.2)
        lower.set_ylim(0, 1.15 * tokens_per_second.max())
        lower.yaxis.set_major_locator(MaxNLocator(3))
        lower.yaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}k" if value else "0")
        lower.set_ylabel("tokens/s")
        lower.set_xlabel("optimiser step")
        figure.align_ylabels()
        figure.subplots_adjust(left=0.08, right=0.94, top=0.97, bottom=0.14, hspace=0.12)
    return svg[0]


def alignment_course(steps: Sequence[float], lines: dict[str, Sequence[float]], made_up: Sequence[float]) -> str:
    """Each line, by title, as its change from the base at step 0, the first of them in front: where it parts from the
    others, it has been hacked. Below, the share of made-up codes."""
    from matplotlib.ticker import MaxNLocator

    with _figure(WIDTH, 4.4) as (figure, svg):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.1))
        for axes in (upper, lower):
            _plain(axes)
            axes.margins(x=0.01)
        upper.axhline(0, color=MUTED, linewidth=1, dashes=(4, 3))
        upper.yaxis.set_major_formatter(lambda value, _: _signed(value, 0) if value else "base")
        upper.set_ylabel("change from the base")
        looks = [(ACCENT, 2.6), *[(WARM, 1.8)] * (len(lines) - 1)]
        change = {title: (_change(values), *look) for (title, values), look in zip(lines.items(), looks, strict=True)}
        change = {title: one for title, one in change.items() if np.isfinite(one[0]).all()}
        for values, colour, width in reversed(change.values()):
            upper.plot(steps, values, color=colour, linewidth=width, marker="o", markersize=width + 2)
        low, high = upper.get_ylim()
        ends = low + _spread([values[-1] - low for values, _, _ in change.values()], gap=0.09 * (high - low))
        for end, (title, (values, colour, _)) in zip(ends, change.items(), strict=True):
            _label(upper, steps[-1], end, f"{title} {_signed(values[-1], 1)}", colour)
        lower.plot(steps, made_up, color=BAD, linewidth=1.8, marker="o", markersize=3.8)
        lower.axhline(made_up[0], color=MUTED, linewidth=1, dashes=(4, 3))
        lower.set_ylim(0, 1.3 * max(*made_up, 1e-4))
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        lower.set_ylabel("made-up codes")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        lower.set_xlabel("step of alignment")
        _label(lower, steps[-1], made_up[-1], f"{made_up[-1]:.2%} name no item", BAD)
        figure.align_ylabels()
        figure.subplots_adjust(left=0.08, right=0.84, top=0.97, bottom=0.11, hspace=0.2)
    return svg[0]


def _change(values: Sequence[float]) -> np.ndarray:
    """Relative to the first; NaN where that is 0."""
    known = np.asarray(values, dtype=float)
    return known / known[0] - 1 if known[0] else np.full(len(known), np.nan)


def _signed(share: float, digits: int) -> str:
    return f"{share:+.{digits}%}".replace("-", "−")


def _label(axes: "Axes", x: float, y: float, text: str, colour: str) -> None:
    """Beside the end of a line."""
    style = {"textcoords": "offset points", "va": "center", "color": colour, "fontweight": "bold"}
    axes.annotate(text, (x, y), (9, 0), **style)


def drift(columns: Sequence[str], moved: Sequence[float], chance: Sequence[float | None]) -> str:
    """How far each column moved as a share of its bound, and (a tick) how far chance alone moves it."""
    rows = np.arange(len(columns))
    with _figure(WIDTH, 0.5 + 0.235 * len(columns)) as (figure, svg):
        axes = _axes(figure, grid="x")
        colours = [BAD if value >= 1 else ACCENT for value in moved]
        axes.barh(rows, np.maximum(moved, 0), color=colours, height=0.55, alpha=0.85)
        known = [(row, value) for row, value in zip(rows, chance, strict=True) if value is not None]
        axes.scatter([max(value, 0) for _, value in known], [row for row, _ in known], marker="|", s=90, color=INK)
        axes.axvline(1, color=BAD, linewidth=1.2, dashes=(4, 3))
        axes.set_yticks(rows, columns)
        axes.set_ylim(len(columns) - 0.4, -0.6)
        axes.set_xlim(0, max(1.12, 1.08 * max(moved)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlabel("of the bound; the tick is what chance alone does")
        bottom = 0.42 / (0.5 + 0.235 * len(columns))
        figure.subplots_adjust(left=0.24, right=0.98, top=1 - bottom / 6, bottom=bottom)
    return svg[0]


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple["Figure", list[str]]]:
    """A figure to draw on; the list holds its SVG when the block ends."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"{width}x{height}",
        "font.family": "sans-serif",
        "font.size": 9.5,
        "axes.labelsize": 9,
        "axes.titlesize": 9.5,
    }
    svg: list[str] = []
    with rc_context(style):
        figure = Figure(figsize=(width, height))
        yield figure, svg
        drawn = StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg.append(_inline(drawn.getvalue()))


def _inline(svg: str) -> str:
    """The element alone: no prologue, no metadata, no addresses, the page's colours and type, the page's width."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', r'<svg\1 role="img"', svg)
    svg = re.sub(r"(font: [^;'\"]*?)px [^;\"]*", r"\1px var(--type)", svg)
    for colour, variable in INKS.items():
        svg = svg.replace(colour, variable)
    return svg


def _axes(figure: "Figure", grid: str = "y") -> "Axes":
    axes = figure.subplots()
    _plain(axes, grid)
    return axes


def _plain(axes: "Axes", grid: str = "y") -> None:
    """Nothing but the data, a faint grid and quiet labels."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=LINE, linewidth=1)
    axes.tick_params(length=0, labelcolor=MUTED)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)


def _smoothed(values: np.ndarray, half_life: float = 0.02) -> np.ndarray:
    """An exponential mean to both sides, so that it does not lag; the half-life is a share of the run."""
    keep = 0.5 ** (1 / max(1.0, half_life * len(values)))
    distance = np.abs(np.subtract.outer(np.arange(len(values)), np.arange(len(values))))
    weight = keep**distance
    return weight @ values / weight.sum(axis=1)


def _spread(places: Sequence[float], gap: float) -> np.ndarray:
    """The places moved apart as little as keeps `gap` between neighbours, in the order given."""
    order = np.argsort(places)
    spread = np.asarray(places, dtype=float)[order]
    for _ in range(200):
        short = gap - np.diff(spread)
        if (short <= 1e-9).all():
            break
        push = np.maximum(short, 0) / 2
        spread[:-1] -= push
        spread[1:] += push
    spread += max(0.0, gap / 2 - spread.min())
    back = np.empty_like(spread)
    back[order] = spread
    return back
