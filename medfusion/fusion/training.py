"""Training a fusion network on a few hundred patients: short, regularised, and the same every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medfusion.core.folds import Patients
from medfusion.fusion.networks import Inputs, Network

STEPS = 200
BATCH = 128
RATE = 3e-3
DECAY = 1e-2
MODALITY_DROPOUT = 0.15
"""How often a modality that is there is taken away in training, so that every subset is practised."""
AUXILIARY = 0.3
"""Weight of the loss of each modality alone."""


def train_network(
    kind: type[Network], sizes: Sequence[int], inputs: Inputs, base: float, patients: Patients, seed: int
) -> Network:
    """Train a network on top of the weighted sum of the evidence.

    Parameters
    ----------
    kind : type of Network
    sizes : sequence of int
        Coordinates per modality.
    inputs : Inputs
        Of training samples (n).
    base : float
        Log-odds that the sum starts from.
    patients : Patients
    seed : int
        Of the first parameters, the batches and all that is dropped; nobody else's random numbers are touched.
    """
    events = torch.as_tensor(patients.events, dtype=torch.float32)
    weights = torch.as_tensor(patients.weights, dtype=torch.float32)
    inputs = Inputs(inputs.evidence.float(), [each.float() for each in inputs.coordinates], inputs.present.float())
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(sizes)
        _descend(network, inputs, base, events, weights / weights.mean())
    network.eval()
    return network


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: small matrices are slower on several, and sums then depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _descend(network: Network, inputs: Inputs, base: float, events: Tensor, weights: Tensor) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=RATE, total_steps=STEPS)
    n = len(events)
    order = torch.randperm(n)
    for step in range(STEPS):
        if n > BATCH and step * BATCH % n < BATCH:
            order = torch.randperm(n)
        start = step * BATCH % n
        rows = order[start : start + BATCH] if n > BATCH else order
        loss = _loss(network, _rows(inputs, rows), base, events[rows], weights[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _rows(inputs: Inputs, rows: Tensor) -> Inputs:
    return Inputs(inputs.evidence[rows], [each[rows] for each in inputs.coordinates], inputs.present[rows])


def _loss(network: Network, inputs: Inputs, base: float, events: Tensor, weights: Tensor) -> Tensor:
    kept = (torch.rand_like(inputs.present) >= MODALITY_DROPOUT).float()
    seen = inputs.masked(kept)
    logits = base + seen.evidence.sum(dim=1) + network(seen)
    loss = (weights * nn.functional.binary_cross_entropy_with_logits(logits, events, reduction="none")).mean()
    alone = network.auxiliary(inputs)
    if alone is None:
        return loss
    each = nn.functional.binary_cross_entropy_with_logits(
        base + alone, events[:, None].expand_as(alone), reduction="none"
    )
    known = weights[:, None] * inputs.present
    return loss + AUXILIARY * (known * each).sum() / known.sum().clamp(min=1.0)
