"""What the notebooks show: tables, texts and figures."""

from __future__ import annotations

from mnist_models.exhibits.networks import change_table, check_table, field_table, ladder
from mnist_models.exhibits.runs import (
    again_table,
    best_against_final,
    confusion,
    curves,
    data_table,
    epoch_line,
    last_epochs,
    misclassified,
    rate_table,
    run_note,
    samples,
    training_against_test,
)
from mnist_models.exhibits.shown import Markdown, Picture, brief, findings, rows_of, settings

__all__ = [
    "Markdown",
    "Picture",
    "again_table",
    "best_against_final",
    "brief",
    "change_table",
    "check_table",
    "confusion",
    "curves",
    "data_table",
    "epoch_line",
    "field_table",
    "findings",
    "ladder",
    "last_epochs",
    "misclassified",
    "rate_table",
    "rows_of",
    "run_note",
    "samples",
    "settings",
    "training_against_test",
]
