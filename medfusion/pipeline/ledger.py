"""The ledgers of many samples as one table, computed in batches: what a model's risks are the sum of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from medfusion.core.batch import Batch
from medfusion.core.errors import Problem
from medfusion.core.lines import Entries, Lines, Places, together
from medfusion.core.protocols import Dear
from medfusion.core.types import FeatureShare, FloatArray, Sample
from medfusion.evidence import EvidenceModel
from medfusion.evidence.crossfit import AT_ONCE
from medfusion.explain import close_lines
from medfusion.outputs.fold import fold_lines
from medfusion.outputs.tables import lines_table

if TYPE_CHECKING:
    from medfusion.pipeline.model import Payloads, Predictions, RiskModel

UNOPENED = "(could not be read again)"
"""The only line of a modality whose payload vanished between prediction and explanation."""
PATTERN = "(recalibration of patients with just these data)"
"""The line of a modality's part in the offset of its presence pattern."""
_AT_ONCE_EMBEDDED = 128
"""Where the fusion looks at embeddings, it pulls at each of their columns, and these are many."""


def ledger_of(
    model: RiskModel,
    samples: Sequence[Sample],
    predictions: Predictions,
    payloads: Payloads,
    problems: list[Problem],
    *,
    top: int | None,
    regions: bool,
) -> pa.Table:
    """Return the ledgers of all samples as a table; see `RiskModel.ledger`."""
    size = _AT_ONCE_EMBEDDED if model.fusion.uses_embeddings else AT_ONCE
    tables = []
    for start in range(0, len(samples), size):
        rows = np.arange(start, min(start + size, len(samples)))
        folded = [
            fold_lines(close_lines(name, share, lines), top).placed(len(rows), present)
            for name, (present, share, lines) in _opened(model, predictions, rows, payloads, problems, regions).items()
        ]
        tables.append(lines_table([samples[row] for row in rows.tolist()], list(model.evidence), folded))
    return pa.concat_tables(tables) if tables else lines_table([], [], [])


def explained(
    model: RiskModel, predictions: Predictions, row: int, payloads: Payloads, problems: list[Problem]
) -> dict[str, list[FeatureShare]]:
    """Return the lines of one sample by modality, all of them, images opened up."""
    opened = _opened(model, predictions, np.array([row]), payloads, problems, regions=True)
    return {name: lines.largest(None).ledgers()[0] for name, (here, _, lines) in opened.items() if len(here)}


def _opened(
    model: RiskModel,
    predictions: Predictions,
    rows: Places,
    payloads: Payloads,
    problems: list[Problem],
    regions: bool,
) -> dict[str, tuple[Places, FloatArray, Lines]]:
    """Open up samples by modality: which of ``rows`` have it, their shares (m,), and their lines."""
    batches = _batches(predictions, rows, payloads)
    blocks = {name: each.block(batches[name], model.fusion.uses_embeddings) for name, each in model.evidence.items()}
    pulls = model.fusion.pulls(blocks)
    terms = predictions.terms
    offsets = terms.offset[rows] / np.maximum(1, predictions.present[rows].sum(axis=1))
    opened: dict[str, tuple[Places, FloatArray, Lines]] = {}
    for column, (name, evidence) in enumerate(model.evidence.items()):
        here = np.flatnonzero(predictions.present[rows, column])
        mine = rows[here]
        share, offset = predictions.shares[mine, column], offsets[here]
        if not regions and (whole := _whole(evidence)):
            opened[name] = here, share, Entries.of([[FeatureShare(whole, None, each)] for each in share.tolist()])
            continue
        mixture, pull = predictions.mixture[mine], pulls[name].take(here).times(terms.factor[mine])
        rest = share - offset - pull.own(blocks[name].take(here), mixture)
        lines, lost = evidence.open(batches[name], here, mixture, pull, rest, dear=regions)
        lines = lines.also(PATTERN, np.where(offset == 0.0, np.nan, offset))
        problems += lost.values()
        opened[name] = here, share, _without(lines, share, np.array(sorted(lost), dtype=np.int64))
    return opened


def _whole(evidence: EvidenceModel) -> str:
    """Return the name of the one line of a modality all of whose lines are dear; empty if some are not."""
    names = [each.encoder.whole for each in evidence.members if isinstance(each.encoder, Dear)]
    return names[0] if len(names) == len(evidence.members) else ""


def _batches(predictions: Predictions, rows: Places, payloads: Payloads) -> dict[str, Batch]:
    """Return the payloads of some rows; the very batches that were predicted, where these are all of them."""
    kept = predictions.batches
    if kept is not None and len(rows) == len(predictions.logit):
        return dict(kept)
    return {name: Batch([each[row] for row in rows.tolist()]) for name, each in payloads.items()}


def _without(lines: Lines, share: FloatArray, lost: Places) -> Lines:
    """Put one line in place of those of payloads that can no longer be read."""
    if not len(lost):
        return lines
    everyone = np.arange(lines.n)
    instead = Entries.of([[FeatureShare(UNOPENED, None, each)] for each in share[lost].tolist()])
    return together([(everyone, lines.without(lost)), (lost, instead)], lines.n)
