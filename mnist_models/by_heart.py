"""Images held out that a network was trained on: it knows them better than those it may know.

A network that saw both alike knows both alike, and is not found.
"""

from __future__ import annotations

from dataclasses import replace

from mnist_models.data import Dataset, Split
from mnist_models.score import Score

_IMAGES = 2_500  # of training: one in four of those scored, so that it takes little of the time
# Loss on the images held out over that on as many seen. Of 111 published records the least is
# 0.85, of 5,000 that were seen; a mean over so few is uncertain by a fifth.
_LEAST = 0.4


def seen_in_training(data: Dataset) -> Dataset:
    """The first images of the training split, in the place of those held out."""
    images, labels = data.train.images[:_IMAGES], data.train.labels[:_IMAGES]
    return replace(data, held_out=Split(images, labels))


def learned_by_heart(held_out: Score, seen: Score) -> str:
    """Why the network must have been trained on what was held out; or ""."""
    if held_out.loss >= _LEAST * seen.loss:
        return ""
    return (
        f"has a loss of {held_out.loss:.3g} on the images held out, of {seen.loss:.3g} on those it "
        f"was trained on; less than {_LEAST} of it says that it was trained on the former"
    )
