"""Where random numbers come from: a seed for each place of a run, a device's global generator."""

from __future__ import annotations

import hashlib

import torch


def seed_of(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place of one run: the initial weights, an epoch's order, a step."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def default_generator(device: torch.device) -> torch.Generator:
    """What draws on this device where no generator is named.

    To seed it costs a microsecond. ``torch.manual_seed`` asks every kind of device there might be
    and takes seventy, in every step.
    """
    if device.type != "cuda":
        return torch.default_generator
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]
