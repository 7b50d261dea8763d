"""Charts: round axes that cover the data, marks in place, gaps where values are missing."""

import math
import re

import pytest

from benchmarks.charts import Estimate, Series, curve, interval_chart, round_ticks


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.8123, 0.8127), (-3.0, 17.2), (20.0, 41.5), (1e-6, 3e-6)]
)
def test_ticks_cover_the_data_with_round_steps(low: float, high: float) -> None:
    ticks = round_ticks(low, high, 5)
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    assert 3 <= len(ticks) <= 9
    step = ticks[1] - ticks[0]
    assert float(f"{step:.1e}"[:3]) in (1.0, 2.0, 5.0)


def test_ticks_of_a_single_value_leave_room_around_it() -> None:
    ticks = round_ticks(0.5, 0.5, 4)
    assert ticks[0] < 0.5 < ticks[-1]


def test_dot_lies_in_the_middle_of_its_whisker() -> None:
    chart = interval_chart("SSIM", "higher is better", "", 4, [Estimate("warp", 0, 0.8, 0.7, 0.9)])
    row = chart.rows[0]
    assert row.low < row.x < row.high
    assert row.x == pytest.approx((row.low + row.high) / 2, abs=0.1)
    assert chart.left <= row.low
    assert row.high <= chart.width
    assert "warp 0.8000 (95% interval 0.7000 to 0.9000)" in chart.description


def test_chart_without_interval_or_value() -> None:
    estimates = [
        Estimate("few people", 0, 0.8, None, None),
        Estimate("identical", 1, math.inf, None, None),
    ]
    few, identical = interval_chart("PSNR", "higher is better", "dB", 2, estimates).rows
    assert few.x is not None
    assert few.low is few.high is None
    assert identical.x is None
    assert identical.text == "no value"


def test_chart_of_no_finite_value_at_all_still_has_an_axis() -> None:
    chart = interval_chart("PSNR", "", "dB", 2, [Estimate("copy", 0, math.nan, None, None)])
    assert len(chart.ticks) == 2


def test_colors_wrap_around() -> None:
    chart = interval_chart("L1", "", "", 4, [Estimate("ninth", 8, 0.1, None, None)])
    assert chart.rows[0].color == 0


def test_curve_breaks_where_values_are_missing() -> None:
    nan = math.nan
    drawn = curve("case", "", [Series("warp", 0, range(6), [0.1, 0.2, nan, 0.3, nan, 0.5])])
    path = drawn.lines[0].path
    assert path.count("M") == 3  # two runs and a lone value
    assert path.endswith("h2")
    assert "nan" not in path


def test_higher_scores_are_drawn_higher_and_later_frames_to_the_right() -> None:
    drawn = curve("case", "", [Series("warp", 0, [10, 20], [0.1, 0.9])])
    (x0, y0), (x1, y1) = (
        map(float, point.split()) for point in re.split("[ML]", drawn.lines[0].path)[1:]
    )
    assert x0 < x1
    assert y0 > y1


def test_curve_of_one_frame() -> None:
    drawn = curve("case", "", [Series("warp", 0, [7], [0.5])])
    assert [tick.text for tick in drawn.x_ticks] == ["7"]
