"""The official package's average of a table of scores: batches of 16 frames, no people, no intervals.

For setting numbers beside old tables, never for ranking: a short last batch weighs as much as a full one, and people
with long clips weigh more than others.
"""

import json

import pandas as pd
import pyarrow as pa

from benchmarks.leaderboard_text import aligned, piped
from benchmarks.metrics import METRICS
from benchmarks.metrics.averages import OFFICIAL_BATCH, mean_of_batch_means
from benchmarks.results import COMPARABLE, MEASURE
from iper_toolkit.plain_text import json_text

TITLE = f"Mean of the means of {OFFICIAL_BATCH} frames, as the official package averages; it ranks nothing."
_GROUP = ("method", *COMPARABLE, *MEASURE)


def official_means(table: pa.Table) -> pd.DataFrame:
    """One row a method, board and metric of frames: columns of `results`, `value`, `frames` and `failed`.

    Frames follow one another by case and number. Those without a score take no part, as files that are not there take
    none in the official package; `failed` counts frames of cases on which the method failed.
    """
    frame = table.to_pandas().sort_values(["case", "frame"], kind="stable")
    rows = []
    for key, group in frame.groupby(list(_GROUP), sort=True):
        scored = group["value"].dropna().to_numpy(float)
        rows.append(
            {
                **dict(zip(_GROUP, key, strict=True)),
                "value": mean_of_batch_means(scored),
                "frames": len(scored),
                "failed": int((group["status"] == "failed").sum()),
            }
        )
    return pd.DataFrame(rows, columns=[*_GROUP, "value", "frames", "failed"])


def as_lines(means: pd.DataFrame, form: str) -> str:
    """The means as "text", "markdown" or "json"."""
    if form == "json":
        records = json.loads(means.to_json(orient="records"))
        return json_text({"average": TITLE, "means": records}, indent=2) + "\n"
    heads = ["method", "dataset", "task", "kind", "metric", "value", "frames", "failed"]
    rows = [heads]
    for one in means.to_dict("records"):
        one["metric"] = METRICS[one["metric"]].title if one["metric"] in METRICS else one["metric"]
        rows.append([f"{one[name]:.4f}" if name == "value" else str(one[name]) for name in heads])
    body = piped(rows) if form == "markdown" else aligned(rows)
    return "\n".join([TITLE, "", *body, ""])
