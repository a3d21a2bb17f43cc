"""The primary metric's effect day by day, with its sequential interval, as an SVG that stands in a page."""

import html

from nextpage.experiments.gate import Point, Tested

WIDTH, HEIGHT = 760, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 26, 34


def effect_chart(tested: Tested, horizon_days: int) -> str:
    """SVG; a sentence where no day has an effect yet."""
    points = [point for point in tested.path if point.effect is not None]
    if not points:
        return "<p>No day has enough users for an effect to be drawn.</p>"
    # An early interval can be a hundred times as wide as the last: the axis follows the effects and the late intervals.
    late = points[len(points) // 2 :]
    ends = [end for point in late for end in (point.low, point.high) if end is not None]
    reach = max(0.01, *(abs(value) for value in [*ends, *(point.effect or 0.0 for point in points)])) * 1.15

    def x(day: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * day / horizon_days

    def y(effect: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - max(-1.0, min(1.0, effect / reach))) / 2

    def bar(point: Point) -> str:
        low = -reach if point.low is None else point.low
        high = reach if point.high is None else point.high
        asked = "" if point.to_show is None else ' stroke-width="3" stroke="#0969da"'
        return f'<path d="M{x(point.day):.1f} {y(low):.1f}V{y(high):.1f}"{asked}/>'

    ticks = [reach * share for share in (-0.8, -0.4, 0.0, 0.4, 0.8)]
    weeks = range(7, horizon_days + 1, 7) if horizon_days >= 7 else range(1, horizon_days + 1)
    label = 'fill="#57606a" font-size="11" font-family="system-ui,sans-serif" stroke="none"'
    name = html.escape(tested.metric)
    pieces = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Effect on {name} by day" width="100%">',
        f'<text x="{LEFT}" y="14" {label}>Effect on {name}, all days so far; '
        "bars: sequential interval, blue where promotion was asked</text>",
        *(
            f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="{"#57606a" if tick == 0 else "#d8dee4"}"/>'
            f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end" {label}>{tick:+.1%}</text>'
            for tick in ticks
        ),
        *(
            f'<text x="{x(day):.1f}" y="{HEIGHT - 12}" text-anchor="middle" {label}>day {day}</text>'
            for day in list(weeks)[:: max(1, len(weeks) // 8)]
        ),
        '<g stroke="#8c959f" stroke-width="1.5">',
        *(bar(point) for point in points),
        "</g>",
        *(
            f'<circle cx="{x(point.day):.1f}" cy="{y(point.effect or 0.0):.1f}" r="3" fill="#1f2328"/>'
            for point in points
        ),
        "</svg>",
    ]
    return "".join(pieces)
