"""Random weights are reproducible."""

import torch
from tests.support.small_network import ONE_BLOCK

from seresnext_export.checkpoints.random_weights import random_network


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = (random_network(seed, ONE_BLOCK) for seed in (1, 1, 2))
    for tensor, same, different in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(tensor, same)
        assert not torch.equal(tensor, different) or not tensor.any()
