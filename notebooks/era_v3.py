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
#   - era-v3
# ---

# %% [markdown] generated="button"
# [![Open in Colab][badge]][colab]
#
# [badge]: https://colab.research.google.com/assets/colab-badge.svg
# [colab]: https://colab.research.google.com/github/mnist-models/mnist-models/blob/main/notebooks/era_v3.ipynb

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
# # ERA V3 session 6, checked again
#
# Document 002 is one network of fewer than 20,000 parameters, "validated by GitHub Actions". This
# notebook builds it, trains nothing, loads the records of runs made here, and holds every sentence
# of the document that can be measured to a measurement. An `assert` that fails stops it.

# %%
from IPython.display import display

from mnist_models import exhibits, lesson
from mnist_models.assignment import CARD, ERA_V3
from mnist_models.checks import check_module
from mnist_models.checks.result import overall
from mnist_models.data import load
from mnist_models.models import EXPERIMENTS, era_v3
from mnist_models.receptive_field import layer_table
from mnist_models.report import published
from mnist_models.report.reproduction import reproduction, rows

system = era_v3.SYSTEM
experiment = EXPERIMENTS["era-v3"]
root = lesson.find_root()
records = published(root / "records")
found = rows(records, system)
display(exhibits.run_note())
display(exhibits.findings(system.findings))

# %% [markdown]
# ## Claimed against measured
#
# The final epoch counts, over all seeds. A claim is called *reached* only if the mean less one
# standard deviation reaches it.

# %%
display(exhibits.Markdown(reproduction(found)))

# %%
display(exhibits.ladder(found))

# %%
display(exhibits.curves(records, system))

# %% [markdown]
# ## Five badges
#
# The document shows five badges: parameters, BatchNorm, Dropout, architecture, accuracy. All five
# are the picture of one and the same workflow with a decorative query string, so that they cannot
# differ: a fault anywhere turns all red, and a green one says nothing of its own. Here each
# requirement is measured by itself, on what the network executes:

# %%
network = experiment.build()
checks, _ = check_module(network, ERA_V3)
display(exhibits.check_table(checks))
assert overall(checks) is True

# %% [markdown]
# On its own assignment the network keeps everything. On this project's card it has too many
# parameters, and nothing else is wrong with it.

# %%
checks, _ = check_module(network, CARD)
assert {check.name for check in checks if check.passed is not True} == {"parameters"}

# %% [markdown]
# ## Max-pooling
#
# is among the techniques that it lists. No max-pooling runs: two convolutions of stride 2 make the
# maps smaller. Each doubles the *jump*, the distance in image pixels between two neighbouring
# values of a map, and with it what every later kernel adds to the receptive field.

# %%
display(exhibits.field_table(network))
layers = layer_table(network)
assert not any("max_pool" in layer.operation for layer in layers)
assert [layer.stride for layer in layers if layer.operation == "conv2d"].count((2, 2)) == 2

# %% [markdown]
# ## Epochs
#
# Its limit is fewer than 20. It ran 20, and its figure is that of the last of them.

# %%
print(experiment.recipe.epochs, "limit", experiment.assignment.epochs)
assert not experiment.assignment.epochs.holds(experiment.recipe.epochs)
assert experiment.claim.epoch == experiment.recipe.epochs

# %% [markdown]
# ## One run
#
# Its accuracy was scraped from the printed text of one run. Between two runs that differ in nothing
# but the seed, and between two neighbouring epochs of one run, there are differences too:

# %%
display(exhibits.best_against_final(records, [experiment.name]))
display(exhibits.last_epochs(records, [experiment.name]))

# %% [markdown]
# ## The stored weights, scored again

# %%
data = load(progress=True)
display(exhibits.data_table(data))
again = lesson.score_again(root, records, [experiment.name], data)
display(exhibits.again_table(again))
assert all(one.result.agrees for one in again)
