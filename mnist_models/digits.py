"""A stand-in for MNIST where there is neither a file nor a network: scikit-learn's digits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SCALE = 255 / 16  # scikit-learn's pixels run from 0 to 16
_BOX = 20  # MNIST fits each digit into a 20x20 box ...
_MARGIN = 4  # ... in the middle of 28x28 pixels


def read_digits() -> tuple[Tensor, Tensor]:
    """The 1,797 images of ``sklearn.datasets.load_digits``, enlarged to look like MNIST.

    The files come with scikit-learn (a text table: nothing is downloaded or unpickled). They
    are the test part of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
    UCI Machine Learning Repository, 1998.

    Returns:
        Images, uint8 (1797, 28, 28), and labels, int64 (1797,).

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second to import, rarely needed

    table = load_digits()
    small = torch.as_tensor(table.images, dtype=torch.float32)[:, None]
    large = F.interpolate(small * _SCALE, (_BOX, _BOX), mode="bilinear", align_corners=False)
    images = F.pad(large, (_MARGIN,) * 4).squeeze(1).round().to(torch.uint8)
    return images, torch.as_tensor(table.target, dtype=torch.int64)
