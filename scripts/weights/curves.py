"""What training looked like: a table of every network's log, and its curves as an SVG."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lwgan.training_run import LOG_FILE

SHOWN = {"person": "L1, the person five times", "structure": "1 - SSIM"}
_EVERY = 100  # steps that one point is the mean of
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b")
_WIDTH, _HEIGHT, _GAP = 300, 150, 46  # of a panel, and between panels


@dataclass(frozen=True)
class Point:
    network: str
    stage: str
    step: int
    values: dict[str, float]  # unweighted means of terms of SHOWN


def read_points(
    folders: Mapping[tuple[str, str], Path], weights: Mapping[str, Mapping[str, float]]
) -> list[Point]:
    """Means of every hundred steps.

    Args:
        folders: of the runs, by network and stage; what has no log is left out.
        weights: of the terms, by stage, which the log holds multiplied.
    """
    points = []
    for (network, stage), folder in folders.items():
        path = folder / LOG_FILE
        if not path.is_file():
            continue
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line["kind"] == "train"]
        for last in range(_EVERY, lines[-1]["step"] + 1, _EVERY):
            within = [line for line in lines if last - _EVERY < line["step"] <= last]
            values = {
                term: float(np.mean([line[term] for line in within])) / weights[stage][term]
                for term in SHOWN
            }
            points.append(Point(network, stage, last, values))
    return points


def write_table(points: Sequence[Point], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("network", "stage", "step", *SHOWN))
        for one in points:
            values = (f"{one.values[term]:.4f}" for term in SHOWN)
            writer.writerow((one.network, one.stage, one.step, *values))


def write_chart(points: Sequence[Point], path: Path) -> None:
    """A panel a stage and term; every network is a line, of the same colour throughout."""
    networks = list(dict.fromkeys(one.network for one in points))
    stages = list(dict.fromkeys(one.stage for one in points))
    parts = []
    for row, (term, meaning) in enumerate(SHOWN.items()):
        for column, stage in enumerate(stages):
            x, y = _GAP + column * (_WIDTH + _GAP), 30 + row * (_HEIGHT + _GAP)
            within = [one for one in points if one.stage == stage]
            parts.append(f'<g transform="translate({x} {y})">')
            parts += _panel(within, term, f"{stage}: {meaning}", networks)
            parts.append("</g>")
    bottom = 30 + len(SHOWN) * (_HEIGHT + _GAP)
    for number, network in enumerate(networks):
        parts.append(_text(_GAP + 190 * number, bottom, network, _COLOURS[number]))
    width = _GAP + len(stages) * (_WIDTH + _GAP)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 16}" '
        'font-family="sans-serif" font-size="12">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n",
        encoding="utf-8",
    )


def _panel(points: Sequence[Point], term: str, title: str, networks: Sequence[str]) -> list[str]:
    values = [one.values[term] for one in points]
    low, high = min(values), max(values)
    longest = max(one.step for one in points)
    parts = [
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#999"/>',
        _text(0, -8, title, "#222"),
        _text(-40, 10, f"{high:.3f}", "#555"),
        _text(-40, _HEIGHT, f"{low:.3f}", "#555"),
        _text(_WIDTH - 32, _HEIGHT + 14, str(longest), "#555"),
    ]
    for number, network in enumerate(networks):
        places = " ".join(
            f"{one.step / longest * _WIDTH:.1f},{_HEIGHT * (high - one.values[term]) / max(high - low, 1e-9):.1f}"
            for one in points
            if one.network == network
        )
        parts.append(
            f'<polyline points="{places}" fill="none" stroke="{_COLOURS[number]}" stroke-width="1.5"/>'
        )
    return parts


def _text(x: float, y: float, text: str, colour: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}">{text}</text>'
