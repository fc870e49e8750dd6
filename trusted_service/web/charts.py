"""The geometry of a bar chart: where its bars, lines and labels go in an SVG.

What lies from left to right is in per cent of the width, so that a chart fits every screen without
its text growing or shrinking along; what lies from top to bottom is in CSS pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

TOP, PLOT = 24, 130
"""Above the highest line there is room for its label."""
BASE = TOP + PLOT
HEIGHT = BASE + 28
FILLED = 0.8
"""How much of its place a bar fills."""
LOWEST = 2.0
"""So that one is seen beside a thousand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    x: str
    y: float
    width: str
    height: float
    label: str
    value: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A level, from one side to the other."""

    y: float
    value: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    x: str
    anchor: Literal["start", "middle", "end"]
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    bars: Sequence[Bar]
    lines: Sequence[Line]
    ticks: Sequence[Tick]
    highest: Bar | None
    height: int = HEIGHT
    base: int = BASE


def draw(labels: Sequence[str], values: Sequence[int], ticks: Mapping[int, str]) -> Chart:
    """Draw a bar for each value; `ticks` are the bars, by number, that have a text below."""
    top, place = _round_up(max(values)), 100 / len(values)
    bars = [
        _bar(place * number, place, value, top, label)
        for number, (label, value) in enumerate(zip(labels, values, strict=True))
        if value > 0
    ]
    lines = [Line(y=BASE - PLOT * value / top, value=value) for value in (top, top // 2)]
    last = len(values) - 1
    return Chart(
        bars=bars,
        lines=lines,
        ticks=[_tick(number, place, last, label) for number, label in ticks.items()],
        highest=max(bars, key=lambda bar: bar.value, default=None),
    )


def _bar(left: float, place: float, value: int, top: int, label: str) -> Bar:
    height = max(LOWEST, PLOT * value / top)
    return Bar(
        x=_per_cent(left + place * (1 - FILLED) / 2),
        y=round(BASE - height, 1),
        width=_per_cent(place * FILLED),
        height=round(height, 1),
        label=label,
        value=value,
    )


def _tick(number: int, place: float, last: int, label: str) -> Tick:
    if number == 0:
        return Tick(x="0%", anchor="start", label=label)
    if number == last:
        return Tick(x="100%", anchor="end", label=label)
    return Tick(x=_per_cent(place * (number + 0.5)), anchor="middle", label=label)


def _round_up(value: int) -> int:
    """The next of 2, 4, 6, 8, 10, 20, 40, …: a half of each is a whole number too."""
    power = 1
    while 10 * power < value:
        power *= 10
    return next(step * power for step in (2, 4, 6, 8, 10) if value <= step * power)


def _per_cent(value: float) -> str:
    return f"{value:.2f}%"
