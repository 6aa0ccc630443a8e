"""BatchNorm statistics, counted anew for weights as they are.

While a network trains, each BatchNorm keeps a moving average over the batches, of weights that
move as well; an average of weights then has statistics that belong to none of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mnist_models.data import normalise

# Images at a time: the variance within a batch falls short of that over all images by the
# variance of the batches' means, a five-hundredth of it or less.
_BATCH = 500
_FEW = 64  # images by which calls are counted; more than parts of a batch that a layer takes


def batches(images: int) -> int:
    """In how many batches `recount` shows so many images."""
    return -(-images // _BATCH)


@torch.no_grad()
def calls_in_a_step(model: nn.Module, recounting: bool) -> dict[str, int]:
    """How many batches each BatchNorm's counter counts, by its name, while one is shown.

    In training, or by `recount`. Parameters stay as they are, statistics do not.
    """
    model.train(not recounting)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            module.train()
    with torch.random.fork_rng(devices=[]):
        model(torch.randn(_FEW, 1, 28, 28))
    return {
        name: int(counter)
        for name, counter in model.named_buffers()
        if name.rpartition(".")[2] == "num_batches_tracked"
    }


@torch.no_grad()
def recount(model: nn.Module, images: Tensor) -> None:
    """Give the network the statistics of these images, uint8 ``(N, 28, 28)``, N > 1, in place.

    Each is the mean over batches of equal size, as nearly as N lets them be. The network computes
    as in evaluation but for its BatchNorms (torch's `update_bn` has all of it compute as in
    training: with Dropout, and with what else differs there). The mode it was in is kept.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the mean over all batches, each with one weight
        norm.train()
    for batch in images.tensor_split(batches(len(images))):
        model(normalise(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, training in modes:
        module.training = training
