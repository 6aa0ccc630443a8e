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
#   - eva4
# ---

# %% [markdown] generated="button"
# [![Open in Colab][badge]][colab]
#
# [badge]: https://colab.research.google.com/assets/colab-badge.svg
# [colab]: https://colab.research.google.com/github/mnist-models/mnist-models/blob/main/notebooks/eva4.ipynb

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
# # EVA4 session 5, checked again
#
# Document 003 reaches its network in four iterations. This notebook builds each, trains nothing,
# loads the records of runs made here, and holds every sentence of the document that can be measured
# to a measurement. An `assert` that fails stops it.

# %%
from IPython.display import display
from torch import nn

from mnist_models import exhibits, lesson
from mnist_models.assignment import CARD
from mnist_models.checks import check_module
from mnist_models.data import load
from mnist_models.models import EXPERIMENTS, eva4
from mnist_models.report import published
from mnist_models.report.reproduction import reproduction, rows

system = eva4.SYSTEM
root = lesson.find_root()
records = published(root / "records")
found = rows(records, system)
steps = [row.experiment for row in found if row.experiment.claim]
display(exhibits.run_note())
display(exhibits.findings(system.findings))

# %% [markdown]
# ## Claimed against measured
#
# The final epoch counts, over all seeds. A claim is called *reached* only if the mean less one
# standard deviation reaches it. `eva4-final-dropout` is no claim but a question of ours: see below.

# %%
display(exhibits.Markdown(reproduction(found)))

# %%
display(exhibits.ladder(found))

# %%
display(exhibits.curves(records, system))

# %% [markdown]
# ## The Dropout that never runs
#
# The final network declares a `Dropout(0.1)`. A test that looks for one finds it:

# %%
final = EXPERIMENTS["eva4-final"].build()
assert any(isinstance(layer, nn.Dropout) for layer in final.modules())

# %% [markdown]
# But `forward` never calls it. The check used here does not read the list of layers: it runs the
# network in training mode and looks for values that are zeroed anew at each pass and change the
# answer. It finds none, and the card is broken twice, by the Dropout and by the number of
# parameters.

# %%
checks, _ = check_module(final, CARD)
display(exhibits.check_table(checks))
broken = {check.name for check in checks if check.passed is not True}
assert broken == {"dropout", "parameters"}

# %% [markdown]
# `eva4-final-dropout` is the same network with its Dropout called. Now it is found; whether it
# helps is for the records to say.

# %%
called = EXPERIMENTS["eva4-final-dropout"]
checks, _ = check_module(called.build(), CARD)
assert {check.name for check in checks if check.passed is not True} == {"parameters"}
assert lesson.changes(EXPERIMENTS["eva4-final"], called).keys() == {"network"}
display(exhibits.last_epochs(records, ["eva4-final", called.name]))

# %% [markdown]
# ## One change at a time?
#
# The second iteration is told as a change of the learning rate and its schedule. The batch size
# changed too, from 64 to 128.

# %%
display(exhibits.change_table(steps))
assert [step.recipe.batch_size for step in steps] == [64, 128, 128, 128]
assert "batch_size" in lesson.changes(steps[0], steps[1])

# %% [markdown]
# ## Parameters, epochs, receptive field
#
# At most 10,000 parameters and 15 epochs are allowed, and both are kept. A value's receptive field
# is the square of image pixels that can change it; the walkthrough explains it step by step.

# %%
limits = steps[0].assignment
for row in found:
    print(row.experiment.name, row.parameters, row.before, row.after)
    assert limits.parameters.holds(row.parameters)
    assert limits.epochs.holds(row.experiment.recipe.epochs)
    assert CARD.receptive_field.holds(row.before)
display(exhibits.field_table(final))

# %% [markdown]
# ## The best epoch
#
# Each of its figures is the best epoch of one run, chosen on the test set; of the first iteration
# it reports itself that the next epoch was worse.

# %%
display(exhibits.best_against_final(records, [row.experiment.name for row in found]))

# %% [markdown]
# ## The stored weights, scored again

# %%
data = load(progress=True)
display(exhibits.data_table(data))
again = lesson.score_again(root, records, [row.experiment.name for row in found], data)
display(exhibits.again_table(again))
assert all(one.result.agrees for one in again)
