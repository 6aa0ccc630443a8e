# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: systems,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   systems:
#   - frontier
#   - era-v1-steps
# ---

# %% [markdown] generated="button"
# [![Open in Colab][badge]][colab]
#
# [badge]: https://colab.research.google.com/assets/colab-badge.svg
# [colab]: https://colab.research.google.com/github/mnist-models/mnist-models/blob/main/notebooks/walkthrough.ipynb

# %% generated="setup"
# Written by `python -m mnist_models notebooks --refresh`: sets up Colab, and does nothing elsewhere
# but find the package of this clone where none is installed.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if "google.colab" in sys.modules and not Path("../mnist_models").is_dir():
    name = "mnist-models"
    address = "https://github.com/mnist-models/mnist-models"
    if not Path(name).is_dir():
        subprocess.run(["git", "clone", "-q", "--depth=1", address, name], check=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"./{name}"], check=True)
    os.chdir(f"{name}/notebooks")
if importlib.util.find_spec("mnist_models") is None:
    sys.path.insert(0, str(Path.cwd().parent))

# %% [markdown]
# # From the digits to a network of fewer than 8,000 parameters
#
# Recognise handwritten digits with **fewer than 8,000 parameters**, **99.4 % of the test images
# right in each of the last three epochs**, and **at most 15 epochs**. This notebook walks the whole
# way: the images, the layers, how far a layer can see, a published ladder of six experiments, and
# the training of this project's own network, `frontier-8k`.
#
# One rule runs through all of it: **a number is measured, not typed**. Results come from records:
# runs whose every epoch and final weights are stored in this repository. Cells that begin with
# `assert` stop the notebook if what the text says does not hold.

# %%
import tempfile
from pathlib import Path

import torch
from IPython.display import display
from torch import nn

from mnist_models import exhibits, lesson
from mnist_models.assignment import CARD
from mnist_models.blocks import Dropout, GlobalAveragePool, convolution
from mnist_models.checks import check_module, measure
from mnist_models.checks.record import check_record
from mnist_models.checks.result import overall
from mnist_models.data import load, normalise
from mnist_models.exhibits import Picture
from mnist_models.figures import images
from mnist_models.models import EXPERIMENTS, era_v1_steps
from mnist_models.receptive_field import layer_table, receptive_fields
from mnist_models.report import published
from mnist_models.report.reproduction import rows
from mnist_models.train import train

root = lesson.find_root()
records = published(root / "records")
own = EXPERIMENTS["frontier-8k"]
display(exhibits.run_note())

# %% [markdown]
# ## 1. The data
#
# MNIST: 60,000 grey images of 28 x 28 pixels to train on and 10,000 others, the **test set**, to
# score on. The files are checked byte for byte, so that two runs are known to speak of the same
# images. (Where MNIST cannot be had, scikit-learn's small digits stand in, with a warning; the
# notebook still runs, and skips what only the real test set can tell.)

# %%
data = load(progress=True)
real = lesson.is_mnist(data)
display(exhibits.data_table(data))
assert data.train.images.dtype == torch.uint8
assert real or data.name == "digits"

# %%
display(exhibits.samples(data))

# %% [markdown]
# A network likes its inputs centred: every pixel is divided by 255, the mean of all training pixels
# is taken off, and the rest divided by their standard deviation. On MNIST the result has a mean of
# about 0 and a deviation of about 1.

# %%
inputs = normalise(data.train.images[:5_000])
assert inputs.shape == (len(inputs), 1, 28, 28)
assert not real or (abs(inputs.mean()) < 0.02 and abs(inputs.std() - 1) < 0.02)

# %% [markdown]
# ## 2. The blocks
#
# All networks here are built from one block. In the order in which an image meets its layers:
#
# - **Convolution**: slides small kernels over the image. A 3x3 kernel looks at 9 pixels of every
#   input channel and writes one pixel of one output channel. It has `inputs x 9 x outputs` weights
#   whatever the size of the image.
# - **Activation** (ReLU, SiLU): bends the result. Without it a stack of convolutions would be one
#   convolution.
# - **BatchNorm**: brings each channel to mean 0 and deviation 1 over the batch, then scales and
#   shifts it by two learnt numbers. Training becomes faster and less touchy.
# - **Dropout**: in training, zeroes a random share of the values, so that no single one is relied
#   on. In evaluation it does nothing.

# %%
block = convolution(1, 8, dropout=Dropout(0.1))
print(block)

features = block(inputs[:4])
assert features.shape == (4, 8, 26, 26)  # no padding: a 3x3 kernel eats one pixel on each side
assert sum(p.numel() for p in block.parameters()) == 1 * 9 * 8 + 2 * 8  # kernels, then BatchNorm

# %% [markdown]
# Dropout draws anew at each training step and vanishes in evaluation. That is how this project
# tells a Dropout that *runs* from one that is merely declared.

# %%
block.train()
assert not torch.equal(block(inputs[:4]), block(inputs[:4]))
block.eval()
assert torch.equal(block(inputs[:4]), block(inputs[:4]))

# %% [markdown]
# At the end stands **global average pooling** (GAP): each channel's whole map becomes its mean.
# A fully connected layer over 16 maps of 4 x 4 pixels would need 16 x 16 x 10 weights; after the
# GAP, 16 x 10 are enough.

# %%
maps = torch.randn(2, 16, 4, 4)
assert torch.allclose(GlobalAveragePool()(maps), maps.flatten(2).mean(2), atol=1e-6)
assert nn.Linear(16 * 4 * 4, 10).weight.numel() == 16 * nn.Linear(16, 10).weight.numel()

# %% [markdown]
# ## 3. The receptive field
#
# Take one value somewhere inside the network and ask: **which pixels of the image can change it?**
# They form a square, its *receptive field*. A first 3x3 convolution sees 3 x 3 pixels. A second one
# looks at 3 x 3 values, each of which saw 3 x 3 pixels, and their squares overlap: together 5 x 5.
#
# Two numbers per layer are enough to follow it:
#
# - the **jump** `j`: how many image pixels lie between two neighbouring values of the map. It
#   starts at 1, and a stride of 2 (a 2x2 max-pool, say) doubles it;
# - the **field** `r`: it starts at 1 pixel, and a kernel of side `k` adds `(k - 1) * j`; one of
#   dilation `d`, whose values lie `d` apart, adds `(k - 1) * d * j`.
#
# So the same 3x3 kernel adds 2 pixels before the first pooling, 4 after it, and 8 after a second
# one. **Pooling makes later layers see far; kernels before it hardly count.**
#
# `frontier-8k` pools once. Where the windows of a pooling begin is arbitrary, and so in evaluation
# it keeps those of all four grids on which they may lie: its pooling does not stride then, and the
# kernels behind it reach over every other value instead. To the field that is the same.

# %%
network = own.build()
display(exhibits.field_table(network))

# %%
field, jump = 1, 1
for layer in layer_table(network):
    if layer.operation in {"conv2d", "max_pool2d"}:
        field += (layer.kernel[0] - 1) * layer.dilation[0] * jump
        jump *= layer.stride[0]
        reach = f"dilation {layer.dilation[0]}  jump {jump}  field {field:2}"
        print(f"{layer.name:16} {layer.operation:10}  {reach}")
        assert (layer.receptive_field, layer.jump) == (field, jump)

# %% [markdown]
# A digit is about 20 pixels tall. Before the GAP a value should have seen all of it: the card asks
# for at least 20 pixels there. Afterwards everything is averaged, and the field of the *output*
# always spans the image: it says nothing.
#
# The package does not trust the recurrence alone. It also asks the gradient: the pixels on which a
# value's derivative is not zero are its true footprint. Both must agree.

# %%
measured = receptive_fields(network)
print(measured)
assert measured.before_pooling == field
assert measured.cause == "both methods agree"
assert CARD.receptive_field is not None
assert CARD.receptive_field.holds(field)

# %%
text = "The receptive field of each layer drawn as a square over a digit."
display(Picture(images.growing_field(data.held_out.images[0], own), text))

# %% [markdown]
# ## 4. A ladder of experiments
#
# How does one find such a network? Not in one stroke. The document behind `steps-1` to `steps-6`
# climbs a ladder: each step states a **target**, runs, reads the **result**, and draws an
# **analysis** from which the next step follows. The results below were measured here, at the final
# epoch, as mean ± standard deviation over *n* seeds, with the document's own figures beside them.
# (`steps-6-constant` is no step of the document: it asks what its last step really ran, and the
# notebook of that system tells why.)

# %%
ladder = rows(records, era_v1_steps.SYSTEM)
display(exhibits.ladder(ladder))

# %% [markdown]
# A good ladder changes **one thing at a time**; else no one can say what helped. What this one
# really changed, read from the recipes:

# %%
steps = [row.experiment for row in ladder if row.experiment.claim]
display(exhibits.change_table(steps))
assert lesson.changes(steps[3], steps[4]).keys() == {"momentum", "augmentation"}
assert lesson.changes(steps[4], steps[5]).keys() == {"momentum", "batch_size", "schedule"}

# %% [markdown]
# And one thing nobody noticed: when step 2 made the network smaller, its receptive field before the
# pooling shrank from 22 to 14 pixels, less than a digit. No later step repaired it.

# %%
before = {row.experiment.name: row.before for row in ladder}
print(before)
assert before["steps-1"] == 22
assert all(before[step.name] == 14 for step in steps[1:])

# %% [markdown]
# The curves of all steps. Training accuracy is counted while training: with Dropout, and on images
# that augmentation has made harder. That is why it may lie *below* the test accuracy.

# %%
display(exhibits.curves(records, era_v1_steps.SYSTEM))

# %% [markdown]
# ## 5. The network of this project
#
# Target: keep all of the card, on every seed. One layer works where the map is large, four behind
# the only pooling. Those are *depthwise separable*: a small convolution on each channel by itself,
# then a mixture of all channels at each pixel, which leaves room for three times as many channels.
# Without padding the map shrinks from layer to layer, and a linear layer reads its average. What
# counts is what *runs*: the checks execute the network and look.

# %%
print(network)
checks, _ = check_module(network, CARD)
display(exhibits.check_table(checks))
assert overall(checks) is True
assert measure(network).parameters == sum(p.numel() for p in network.parameters())

# %% [markdown]
# ### Augmentation
#
# Every time an image is trained on it is turned, shifted, scaled, sheared and bent a little, each
# time differently: 60,000 images become endlessly many. Too strong, and the training images are
# harder than the test images ever get; so the last three epochs go without it.

# %%
text = "Training images, each beside variants of it as the augmentation draws them."
display(Picture(images.augmented(data, own.recipe), text))

# %% [markdown]
# ### The recipe
#
# The learning rate rises to its peak and falls to zero within the run (*one-cycle*), and a running
# average of the weights is what is scored. Both make the last epochs agree with each other.
#
# *Muon*, the optimiser, turns every update so that no direction of a matrix learns much slower
# than another.
#
# The network, the optimiser with its settings and the bending were chosen on images held out of
# the *training* set (see docs/search.md), and the test set was scored at the end. A word of
# honesty: the batch, the rest of the augmentation and the average go back to single runs that were
# scored on the test set; on the images held out, what else was tried did no better.

# %%
display(exhibits.settings(own.recipe.to_dict()))
assert (own.recipe.optimizer, own.recipe.plain_epochs) == ("muon", 3)

# %% [markdown]
# ### Training

# %%
experiment, images_used = lesson.lesson_run(own, data)
display(exhibits.run_note(experiment, images_used))


def show_epoch(progress):
    if progress.finished:
        print(exhibits.epoch_line(progress.finished, progress.epochs))


with tempfile.TemporaryDirectory() as folder:
    record = train(experiment, 0, images_used, Path(folder), listener=show_epoch)

assert [epoch.epoch for epoch in record.epochs] == list(range(1, experiment.recipe.epochs + 1))
assert record.final.train_loss < record.epochs[0].train_loss
assert record.final.test_correct > 0.5 * record.final.test_total  # guessing gets a tenth
assert record.final.learning_rate > record.final.last_learning_rate  # one-cycle ends at zero

# %%
display(exhibits.curves({own.name: [record]}, own.system))

# %% [markdown]
# Now the card again, on this very run. A short run, or one on the stand-in digits, was not scored
# on the 10,000 test images: its accuracy is then *unknown*, never a pass.

# %%
checks = check_record(record, CARD)
display(exhibits.check_table(checks))
assert (overall(checks) is True) == (real and not lesson.is_quick())

# %% [markdown]
# ## 6. One run is no result
#
# Another seed gives other weights and another accuracy. Published claims often quote the best epoch
# of the best run, picked on the very test set they report. Here the **final** epoch counts, over
# all seeds:

# %%
display(exhibits.ladder(rows(records, own.system)))
display(exhibits.best_against_final(records, [own.name]))

# %%
display(exhibits.curves(records, own.system))

# %% [markdown]
# Every published record of the network keeps the card, and its stored weights, scored again now,
# give what it says (two images of 10,000 may turn: another processor rounds differently).

# %%
for published_record in records.get(own.name, ()):
    assert overall(check_record(published_record, CARD)) is True

again = lesson.score_again(root, records, [own.name], data)
display(exhibits.again_table(again))
assert all(one.result.agrees for one in again)

# %% [markdown]
# ## 7. What it gets wrong
#
# Rows are the truth, columns the answer.

# %%
display(exhibits.confusion(records, own))

# %% [markdown]
# And the images themselves. Before planning a remedy, look: would you have known?

# %%
display(exhibits.misclassified(records, own, data))

# %% [markdown]
# ## Where to go from here
#
# - Write a network of your own and check it: `python -m mnist_models check path/to/model.py:Net`.
# - Change one thing in a recipe, train a few seeds, and compare means, not runs.
# - The other notebooks hold five published systems to what they claim.
