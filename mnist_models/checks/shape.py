"""One finite row of ten logits for each image, whatever is beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnist_models.advice import describe
from mnist_models.checks.result import CheckResult
from mnist_models.plural import counted
from mnist_models.probe import answer, digits, run

_HELP = "return one (B, 10) float tensor of logits from forward"
_ALONE = (
    "compute each image by itself in evaluation: softmax over dim=1, means over an image's own "
    "dimensions, running statistics in BatchNorm"
)
_BESIDE = 1e-2  # standard deviations of the logits; batches of other sizes round by far less
_NO_DIMENSION = "(flatten(1) keeps the batch dimension where squeeze() drops it)"


def check_shape(module: nn.Module) -> CheckResult:
    """``(B, 1, 28, 28) -> (B, 10)``, finite and floating, for batches of 1, 2 and 5 images.

    A single image may give ``(10,)``, or nothing: a `squeeze` without a dimension does not harm
    the rest.

    Raises:
        Exception: whatever the module's forward raises for several images.
    """
    for count in (2, 5):
        output = run(module, digits(count, seed=40 + count), values=False).output
        if failed := _wrong(output, count):
            return failed
    cause = _kind(output)
    try:
        single = run(module, digits(1, seed=41), values=False).output
    except Exception as error:
        cause += f"; a single one fails: {describe(error).split(chr(10))[0]} {_NO_DIMENSION}"
    else:
        if isinstance(single, Tensor) and tuple(single.shape) == (10,):
            cause += "; a single one loses its batch dimension"
        elif failed := _wrong(single, 1):
            return failed
    if (apart := _beside(module)) > _BESIDE:
        much = f"{apart:.2g}" if apart < 1 else "more than one"
        cause = f"the logits of an image move by {much} of their spread with the images beside it"
        return _failed("depends on others", cause, _ALONE)
    return CheckResult("output-shape", True, "(B, 10)", "(B, 10)", "shape", cause)


def _wrong(output: object, count: int) -> CheckResult | None:
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        return _failed(kind, f"the forward pass returns no tensor, but a {kind}")
    shape = str(tuple(output.shape))
    if tuple(output.shape) != (count, 10):
        return _failed(
            shape, f"for {counted(count, 'image')} it gives {shape}; expected {(count, 10)}"
        )
    if not output.is_floating_point():
        return _failed(str(output.dtype), f"the logits are {output.dtype}")
    if not torch.isfinite(output).all():
        return _failed("not finite", "some logits are infinite or no number")
    return None


def _kind(output: Tensor) -> str:
    """What the ten numbers are: cross-entropy takes logits, and logarithms of probabilities."""
    rows = output.double().sum(1)
    if (output >= 0).all() and torch.allclose(rows, torch.ones_like(rows), atol=1e-4):
        return "ten probabilities an image, which cross-entropy takes for logits"
    return "ten logits an image"


def _beside(module: nn.Module) -> float:
    """How far the logits move with the images beside, where nothing else moves them."""
    five = digits(5, seed=45)
    batches = [(five, 0), (five, 1), (five[:2], 0), (torch.cat([five[:2], five[2:] + 1]), 0)]
    found = [answer(module, images, seed=seed) for images, seed in batches]
    here, again, fewer, others = [logits.double() for logits in found]
    if not torch.equal(here, again):
        return 0.0  # chance does, which is told of Dropout
    apart = torch.maximum((here[:2] - fewer).abs().max(), (here[:2] - others[:2]).abs().max())
    return float(apart / here.std().clamp_min(1e-12))


def _failed(measured: str, cause: str, advice: str = _HELP) -> CheckResult:
    return CheckResult("output-shape", False, measured, "(B, 10)", "shape", cause, advice)
