"""Random weights are reproducible, and conditioned so that comparing anything with them means something."""

import numpy as np
import torch

from seresnext_export import verify
from seresnext_export.network import Architecture, Network, eager
from seresnext_export.photographs import Pixels
from seresnext_export.random_weights import LOGITS_STD, random_network

TINY = Architecture(blocks=(1,), widths=(32,))


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = random_network(1, TINY), random_network(1, TINY), random_network(2, TINY)
    for one, same, different in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, different) or not one.any()


def test_photographs_get_different_classes(full_network: Network, photos: Pixels) -> None:
    answers = verify.log_probabilities(eager(full_network), photos, 8)
    assert len(set(answers.argmax(axis=1))) >= len(photos) // 2
    spread = np.std(answers - answers.mean(axis=1, keepdims=True))
    assert LOGITS_STD * 0.8 < spread < LOGITS_STD * 1.2
