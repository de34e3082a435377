"""Generators whose state nobody can guess."""

from __future__ import annotations

import os

import numpy as np
import torch

# Where PyTorch's Mersenne twister keeps its 624 words in `Generator.get_state()`: behind the seed, two
# counters and a position, each word in 64 bits.
_WORDS = slice(24, 24 + 624 * 8)


def secret_generator(device: torch.device | str = "cpu") -> torch.Generator:
    """Make a generator with a state from the operating system's cryptographic source.

    On a processor PyTorch uses only 32 bits of any seed, few enough to try them all, so the whole state is
    drawn. A generator of another device is seeded with the 64 bits that it takes.
    """
    generator = torch.Generator(device)
    if generator.device.type != "cpu":
        generator.manual_seed(int.from_bytes(os.urandom(8), "little", signed=True))
        return generator
    state = generator.manual_seed(0).get_state()
    words = np.frombuffer(os.urandom(624 * 4), dtype=np.uint32).astype(np.uint64)
    state[_WORDS] = torch.from_numpy(words.view(np.uint8).copy())
    return generator.set_state(state)
