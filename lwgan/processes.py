"""Several training processes, on one machine or many, as torchrun starts them."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iper_toolkit.processes import shard_from_environment


@dataclass(frozen=True)
class Processes:
    """Which of several training processes this is: what torchrun says in the environment."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> "Processes":
        """What torchrun says; alone without it.

        Raises:
            ValueError: RANK and WORLD_SIZE make no sense, or there is nobody to meet at MASTER_ADDR.
        """
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        given = shard_from_environment()
        assert given is not None  # both are there
        (rank, world), said = given
        met = torch.distributed.is_available() and torch.distributed.is_initialized()
        if world > 1 and not met and "MASTER_ADDR" not in os.environ:
            raise ValueError(
                f"The environment says {said}, but not MASTER_ADDR, where the processes meet. Start several with "
                "torchrun; for one, unset RANK and WORLD_SIZE."
            )
        return cls(rank, world)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            torch.distributed.barrier()

    def agree(self, first_says: bool) -> bool:
        """What the first process says, in all of them: clocks differ, and who stops alone leaves the others waiting."""
        if self.world == 1:
            return first_says
        said = [first_says]
        torch.distributed.broadcast_object_list(said)
        return bool(said[0])

    def average_gradients(self, module: nn.Module) -> None:
        """Gradients become their mean over all processes; what one has not touched counts as 0 there."""
        parameters = [one for one in module.parameters() if one.requires_grad]
        for one in parameters:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        gradients: list[Tensor] = [one.grad for one in parameters if one.grad is not None]
        flat = torch.cat([one.flatten() for one in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.world
        means = flat.split([gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))
