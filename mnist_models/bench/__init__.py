"""Timing, interleaved in one run: this loop against what one would run instead, and the floors.

`bench` compares contenders, `measure_choices` the loop as built with variants of it, and
`measure_accuracy` what the faster ways to train do to the accuracy.
"""

from mnist_models.bench.accuracy import measure_accuracy
from mnist_models.bench.choices import measure_choices
from mnist_models.bench.comparison import bench
from mnist_models.bench.notebooks import plain_dropout
from mnist_models.bench.turns import BenchError

__all__ = ["BenchError", "bench", "measure_accuracy", "measure_choices", "plain_dropout"]
