"""What a run leaves when all of its epochs are done: its record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mnist_models import record as records
from mnist_models.checkpoint import FILE_NAME as CHECKPOINT
from mnist_models.checkpoint import Checkpoint
from mnist_models.data import Dataset
from mnist_models.models import Experiment
from mnist_models.provenance import model_digest, provenance
from mnist_models.record import Record
from mnist_models.run import Run
from mnist_models.score import Score, score

_TIMED = (
    "training and scoring of every epoch; not start-up, loading the data, or writing checkpoints"
)
_STACKED_TIMED = (
    "scoring of every epoch, and an equal share of its training, the seconds of all seeds that "
    "trained in one network divided by their number; not start-up, loading the data, or writing "
    "checkpoints"
)


def write_record(
    experiment: Experiment, run: Run, data: Dataset, state: Checkpoint, folder: Path, *, force: bool
) -> Record:
    """Score the run, write its record into `folder` and remove its checkpoint.

    Raises:
        RecordExistsError: another record stands in `folder` and `force` is not set.
    """
    record = _record(experiment, run, data, state, score(run.scored, data.held_out))
    record = records.save_record(record, state.kept, folder, force=force)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return record


def _record(
    experiment: Experiment, run: Run, data: Dataset, state: Checkpoint, final: Score
) -> Record:
    return Record(
        version=records.VERSION,
        experiment=experiment.name,
        seed=run.seed,
        stacked=state.stacked,
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        model_digest=model_digest(run.model),
        recipe=experiment.recipe.to_dict(),
        data=records.Data(
            name=data.name,
            split=data.split,
            train_images=len(data.train),
            held_out_images=len(data.held_out),
            md5=data.md5,
        ),
        epochs=state.epochs,
        confusion=final.confusion,
        misclassified=final.misclassified,
        weights=[
            records.Weights(epoch, records.weights_name(epoch), hashlib.sha256(content).hexdigest())
            for epoch, content in sorted(state.kept.items())
        ],
        provenance=provenance(data.train.images.device, state.environments),
        timing=records.Timing(
            sum(state.seconds), state.seconds, _STACKED_TIMED if state.stacked else _TIMED
        ),
    )
