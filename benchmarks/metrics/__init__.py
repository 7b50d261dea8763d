"""All metrics, by name. A metric is one entry: a function and its card; each family has a file of cards."""

from benchmarks.metrics.body_cards import BODY
from benchmarks.metrics.card import Metric, SetScore, score_frames, score_pair
from benchmarks.metrics.distribution_cards import DISTRIBUTION
from benchmarks.metrics.identity_cards import IDENTITY
from benchmarks.metrics.official_cards import OFFICIAL
from benchmarks.metrics.perceptual_cards import PERCEPTUAL
from benchmarks.metrics.pictures import Estimates, Pair, Pictures
from benchmarks.metrics.pixel_cards import PIXEL
from benchmarks.metrics.temporal_cards import TEMPORAL

__all__ = [
    "GROUPS",
    "METRICS",
    "Estimates",
    "Metric",
    "Pair",
    "Pictures",
    "SetScore",
    "score_frames",
    "score_pair",
]

METRICS: dict[str, Metric] = (
    PIXEL | PERCEPTUAL | IDENTITY | DISTRIBUTION | TEMPORAL | BODY | OFFICIAL
)

# The tables of a leaderboard, in order: what a group is called.
GROUPS: dict[str, str] = {
    "pixel": "Pixels",
    "perceptual": "Perception",
    "identity": "Identity",
    "distribution": "Distributions: one number of all pictures",
    "temporal": "Motion",
    "body": "Body",
    "official": "In the official package's form",
}
