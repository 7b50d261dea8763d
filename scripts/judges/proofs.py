"""What judges can do, on people they have never seen: the figures that they must earn before they are shipped."""

from dataclasses import dataclass

import numpy as np
import torch
from judges.datasets import Pictures
from judges.people import as_judged
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.networks.mini import OSNetMini


@dataclass(frozen=True)
class Recognition:
    """How well identities are found again in a gallery of one picture each; all else are queries."""

    rank_1: float  # the nearest of the gallery is the query's identity
    mean_average_precision: float  # over a gallery of all other pictures
    rank_1_of_family: (
        float  # the nearest is at least of the family: what look-alikes cost is the difference
    )
    gallery: int
    queries: int

    def __str__(self) -> str:
        return (
            f"rank-1 {self.rank_1:.3f}, mAP {self.mean_average_precision:.3f}, rank-1 of the family "
            f"{self.rank_1_of_family:.3f}; {self.queries} queries, gallery of {self.gallery} identities"
        )


def recognise(network: nn.Module, pictures: Pictures) -> Recognition:
    """Query and gallery differ in pose, side, place and light, as all pictures of a set do."""
    unit = embed(network, pictures)
    identity, family = (torch.from_numpy(one) for one in (pictures.identity, pictures.family))
    first = {one: index for index, one in reversed(list(enumerate(identity.tolist())))}
    gallery = torch.tensor(sorted(first.values()))
    queries = torch.tensor([k for k in range(len(unit)) if first[int(identity[k])] != k])
    nearest = gallery[(unit[queries] @ unit[gallery].T).argmax(1)]
    return Recognition(
        rank_1=_share(identity[nearest] == identity[queries]),
        mean_average_precision=_mean_average_precision(unit, identity),
        rank_1_of_family=_share(family[nearest] == family[queries]),
        gallery=len(gallery),
        queries=len(queries),
    )


def embed(network: nn.Module, pictures: Pictures) -> Tensor:
    """(N, d) of unit length."""
    crops = torch.from_numpy(pictures.crops).permute(0, 3, 1, 2)
    found = []
    with torch.inference_mode():
        for first in range(0, len(crops), 64):
            found.append(network(as_judged(crops[first : first + 64], OSNetMini.SIZE)))
    return functional.normalize(torch.cat(found))


def _mean_average_precision(unit: Tensor, identity: Tensor) -> float:
    nearness = (unit @ unit.T).fill_diagonal_(-2)
    order = nearness.argsort(1, descending=True)[:, :-1]
    same = identity[order] == identity[:, None]
    hits = same.cumsum(1) / torch.arange(1, same.shape[1] + 1)
    return float(((hits * same).sum(1) / same.sum(1)).mean())


def _share(hits: Tensor) -> float:
    return float(np.mean(hits.numpy()))
