"""What each figure shows, as JSON-ready tables: from records and the registry, never typed.

The drawing functions take nothing else, so that the digest of a table stands for all that a
figure shows, wherever it was computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mnist_models.assignment import CARD, IMAGES
from mnist_models.models import EXPERIMENTS, Experiment
from mnist_models.receptive_field import layer_table
from mnist_models.recipe import Recipe
from mnist_models.record import Record
from mnist_models.statistics import aggregate
from mnist_models.timings import EPOCHS as TIMED_EPOCHS
from mnist_models.timings import Bench, Spread, newest

Table = dict[str, Any]
MEASURED = {"held_out_images", "held_out_labels"}  # the tensors that a record was scored on

EACH = 5  # sample images of each digit
ORIGINALS = (7, 5, 0, 13, 2)  # training images that are shown augmented
VARIANTS = 9  # of each of them
SEED = 0  # of the variants
SHOWN = 40  # misclassified digits
GROWTH_IMAGE = 61  # the test image over which the receptive field grows


@dataclass(frozen=True)
class Published:
    """A result published elsewhere and not measured here, and how it was come by."""

    parameters: int
    percent: float
    chosen: str


# The smallest published networks above 99 %, as their authors report them.
PUBLISHED = (
    Published(7_496, 99.56, "one run, final epoch"),
    Published(1_936, 99.1, "75 epochs, a chosen checkpoint"),
    Published(697, 99.03, "best of about 700 runs"),
)


def _sample(records: Sequence[Record]) -> list[Record]:
    """The records in the order of their seeds.

    Raises:
        SeedsError: they are no fair sample of one experiment.
    """
    aggregate(records, CARD)
    return sorted(records, key=lambda record: record.seed)


def curves_table(records: Mapping[str, Sequence[Record]]) -> Table:
    """Images correct in each epoch of each seed, by experiment.

    Raises:
        SeedsError: the records of an experiment are no fair sample.
    """
    experiments = []
    for name, group in records.items():
        runs = _sample(group)
        limit = EXPERIMENTS[name].assignment.accuracy if name in EXPERIMENTS else None
        final = runs[0].final
        experiments.append(
            {
                "name": name,
                "limit": limit.value if limit and final.test_total == IMAGES else None,
                "train_total": final.train_total,
                "test_total": final.test_total,
                "train": [[epoch.train_correct for epoch in run.epochs] for run in runs],
                "test": [[epoch.test_correct for epoch in run.epochs] for run in runs],
            }
        )
    return {"experiments": experiments}


def confusion_table(records: Sequence[Record]) -> Table:
    """The confusion matrices of the final epochs, added up: ``counts[truth][answer]``.

    Raises:
        SeedsError: the records are no fair sample of one experiment.
    """
    runs = _sample(records)
    counts = [
        [sum(run.confusion[truth][answer] for run in runs) for answer in range(10)]
        for truth in range(10)
    ]
    return {"experiment": runs[0].experiment, "seeds": len(runs), "counts": counts}


def parameters_table(records: Mapping[str, Sequence[Record]]) -> Table:
    """Parameters and final accuracy of every experiment with records, claims beside them.

    Raises:
        SeedsError: the records of an experiment are no fair sample.
    """
    experiments = []
    for name, group in records.items():
        runs, experiment = _sample(group), EXPERIMENTS[name]
        experiments.append(
            {
                "name": name,
                "system": experiment.system.name,
                "parameters": runs[0].parameters,
                "total": runs[0].final.test_total,
                "correct": [run.final.test_correct for run in runs],
                "claim": _test_claim(experiment),
                "ablation": experiment.ablates is not None,
            }
        )
    return {"experiments": experiments, "published": [asdict(point) for point in PUBLISHED]}


def _test_claim(experiment: Experiment) -> float | None:
    """The accuracy claimed on test images: one of training images has no place beside them."""
    claim = experiment.claim
    return claim.percent if claim and claim.measured_on == "test" else None


def misses_table(records: Sequence[Record]) -> Table:
    """The misclassified images of the final epochs, those that most seeds missed first.

    Raises:
        SeedsError: the records are no fair sample of one experiment.
    """
    runs = _sample(records)
    missed = Counter(index for run in runs for index in run.misclassified)
    ranked = sorted(missed.items(), key=lambda item: (-item[1], item[0]))
    return {
        "experiment": runs[0].experiment,
        "seeds": len(runs),
        "md5": {name: md5 for name, md5 in runs[0].data.md5.items() if name in MEASURED},
        "missed": [list(item) for item in ranked],
    }


def augmentation_table(recipe: Recipe) -> Table:
    """What the recipe does to each training image, in order."""
    return {"augmentation": recipe.to_dict()["augmentation"]}


def timing_table(benches: Sequence[Bench]) -> Table:
    """Seconds of every contender, an epoch and to the end, by the newest of each device."""
    return {
        "epochs": TIMED_EPOCHS,
        "benches": [
            {
                "title": bench.provenance.device,
                "contenders": [
                    {
                        "name": name,
                        "epoch": _seconds(epoch),
                        "end": _seconds(bench.to_the_end.get(name)),
                    }
                    for name, epoch in bench.seconds_per_epoch.items()
                ],
            }
            for bench in newest(benches)
        ],
    }


def _seconds(found: Spread | None) -> Table | None:
    if found is None:
        return None
    return {"median": found.median, "lowest": found.lowest, "highest": found.highest}


def growth_table(experiment: Experiment) -> Table:
    """The layers after which the receptive field is larger than before, in pixels.

    A global average after which nothing grows any more is the last of them. A layer whose
    field is not known is left out.
    """
    rows: list[Table] = []
    for row in layer_table(experiment.build()):
        field = row.receptive_field
        if field is not None and field > (rows[-1]["field"] if rows else 1):
            kernel = row.kernel if row.operation != "mean" else None
            rows.append(
                {
                    "operation": row.operation,
                    "kernel": list(kernel) if kernel else None,
                    "size": list(row.size),
                    "channels": row.channels,
                    "field": field,
                }
            )
    return {"experiment": experiment.name, "layers": rows}
