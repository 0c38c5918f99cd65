"""Networks that learn what the sum of the evidence misses. All take any subset of modalities, and say 0 to none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from torch import Tensor, nn

WIDTH = 32
HEADS = 4
TOKENS = 2
"""Tokens per modality."""
DROPOUT = 0.2
MOST = 3.0
"""How many times as much as usual, or as little, a gate lets a modality count."""
PAIR_RATE = 20.0
"""How much faster weights of products are learnt than others: a few hundred short steps have to be enough."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a network sees of n samples of M modalities.

    Attributes
    ----------
    evidence : Tensor (n, M)
        Weighted evidence in log-odds; 0 where absent.
    coordinates : sequence of Tensors (n, r_m), length M
        0 where absent.
    present : Tensor (n, M), 1 or 0
    """

    evidence: Tensor
    coordinates: Sequence[Tensor]
    present: Tensor

    def masked(self, present: Tensor) -> Inputs:
        """Return the inputs with only some of the modalities."""
        here = self.present * present
        columns = [each * here[:, [place]] for place, each in enumerate(self.coordinates)]
        return Inputs(self.evidence * here, columns, here)


class Network(nn.Module):
    """What all networks share: named inputs, and 0 for a sample from which everything is absent.

    Parameters
    ----------
    sizes : sequence of int, length M
        How many coordinates each modality has.
    """

    uses_coordinates: ClassVar[bool] = True

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)

    def auxiliary(self, inputs: Inputs) -> Tensor | None:
        """Return what each modality says by itself (n, M), for a loss of its own; None where there is no such thing."""
        return None

    def arrays(self) -> dict[str, object]:
        """Return the parameters as arrays."""
        return {name: each.detach().numpy() for name, each in self.state_dict().items()}

    def load(self, arrays: Mapping[str, object]) -> None:
        """Take parameters over.

        Raises
        ------
        ValueError
            If names or shapes differ.
        """
        try:
            self.load_state_dict({name: torch.as_tensor(each) for name, each in arrays.items()})
        except RuntimeError as error:
            raise ValueError(f"parameters do not fit a network of sizes {list(self.sizes)}") from error


class Gated(Network):
    """Weights of evidence that depend on who else is there and on how sure each modality is of itself.

    ``sum over m of evidence_m * (exp(gate_m) - 1)`` with ``gate_m`` linear in the presence of the others and in
    ``|evidence_m|``, and bounded: a modality counts between a third and three times as much.
    """

    uses_coordinates = False

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self.others = nn.Parameter(torch.zeros(len(sizes), len(sizes)))
        self.confidence = nn.Parameter(torch.zeros(len(sizes)))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return what is to be added to the weighted sum of the evidence (n,)."""
        different = 1.0 - torch.eye(len(self.sizes), dtype=inputs.present.dtype)
        others = inputs.present @ (self.others * different)
        gate = torch.tanh(others + self.confidence * torch.tanh(inputs.evidence.abs() - 1.0))
        return (inputs.evidence * (torch.exp(gate * log(MOST)) - 1.0)).sum(dim=1)


class Pairs(nn.Module):
    """What two modalities mean together: a weighted sum of the products of their evidence.

    A perceptron for few patients is slow to find a product. Evidence is bounded to two log-odds on either side, so that
    two sure modalities do not outvote everything; where one of a pair is absent, its product is 0.
    """

    def __init__(self, modalities: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(modalities * (modalities - 1) // 2))

    def forward(self, evidence: Tensor) -> Tensor:
        """Return log-odds (n,) from evidence (n, M)."""
        bounded = 2.0 * torch.tanh(evidence / 2.0)
        first, second = torch.triu_indices(evidence.shape[1], evidence.shape[1], 1)
        # A factor beside a weight is a learning rate of its own.
        said: Tensor = PAIR_RATE * (bounded[:, first] * bounded[:, second]) @ self.weights
        return said


class Early(Network):
    """Features of all modalities side by side, with flags of which are there, into a small perceptron; and pairs."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        width = 2 * len(sizes) + sum(sizes)
        self.body = nn.Sequential(
            nn.Linear(width, WIDTH), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, WIDTH), nn.GELU()
        )
        self.out = nn.Linear(WIDTH, 1, bias=False)
        nn.init.zeros_(self.out.weight)
        self.pairs = Pairs(len(sizes))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return what is to be added to the weighted sum of the evidence (n,)."""
        row = torch.cat([inputs.evidence, inputs.present, *inputs.coordinates], dim=1)
        nothing = torch.zeros(1, row.shape[1], dtype=row.dtype)
        said: Tensor = self.out(self.body(row)) - self.out(self.body(nothing))
        # Products of many rows round otherwise than those of one: where nothing is there, this is exactly 0.
        together: Tensor = self.pairs(inputs.evidence)
        return said[:, 0] * inputs.present.amax(dim=1) + together


class CoAttention(nn.Module):
    """One layer in which each modality asks the others, and then itself, after ViLBERT [1]_.

    References
    ----------
    .. [1] Lu J, Batra D, Parikh D, Lee S (2019). ViLBERT: pretraining task-agnostic visiolinguistic representations for
       vision-and-language tasks. NeurIPS.
    """

    def __init__(self) -> None:
        super().__init__()
        self.across = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.within = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.forward_layers = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(2 * WIDTH, WIDTH)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, tokens: Tensor, across: Tensor, within: Tensor) -> Tensor:
        """Return tokens (n, t, width); the masks (n * heads, t, t) are True where nobody may look."""
        seen = self.norms[0](tokens)
        tokens = tokens + self.across(seen, seen, seen, attn_mask=across, need_weights=False)[0]
        seen = self.norms[1](tokens)
        tokens = tokens + self.within(seen, seen, seen, attn_mask=within, need_weights=False)[0]
        processed: Tensor = self.forward_layers(self.norms[2](tokens))
        return tokens + processed


class Joint(Network):
    """Tokens of each modality through co-attention, and pairs; modalities also answer for themselves in training."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self.embed = nn.ModuleList(nn.Linear(1 + size, TOKENS * WIDTH) for size in sizes)
        self.alone = nn.ModuleList(nn.Linear(TOKENS * WIDTH, 1) for _ in sizes)
        self.layer = CoAttention()
        self.out = nn.Linear(WIDTH, 1, bias=False)
        nn.init.zeros_(self.out.weight)
        self.pairs = Pairs(len(sizes))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return what is to be added to the weighted sum of the evidence (n,)."""
        tokens = self._tokens(inputs)
        here = inputs.present.repeat_interleave(TOKENS, dim=1)
        owner = torch.arange(inputs.present.shape[1]).repeat_interleave(TOKENS)
        same = owner[:, None] == owner[None, :]
        absent = here[:, None, :] == 0
        # Who has nobody to ask looks at itself: attention over nothing is not defined.
        eye = torch.eye(len(owner), dtype=torch.bool)
        across = self._mask((same | absent), eye)
        tokens = self.layer(tokens, across, self._mask(~same | absent, eye))
        pooled = (tokens * here[:, :, None]).sum(dim=1) / here.sum(dim=1, keepdim=True).clamp(min=1.0)
        said: Tensor = self.out(pooled)
        together: Tensor = self.pairs(inputs.evidence)
        return said[:, 0] + together

    def auxiliary(self, inputs: Inputs) -> Tensor:
        """Return log-odds that each modality gives by itself (n, M)."""
        tokens = self._tokens(inputs).reshape(len(inputs.present), len(self.sizes), TOKENS * WIDTH)
        return torch.cat([head(tokens[:, place]) for place, head in enumerate(self.alone)], dim=1)

    def _tokens(self, inputs: Inputs) -> Tensor:
        rows = [
            layer(torch.cat([inputs.evidence[:, [place]], inputs.coordinates[place]], dim=1))
            for place, layer in enumerate(self.embed)
        ]
        return torch.stack(rows, dim=1).reshape(len(inputs.present), len(self.sizes) * TOKENS, WIDTH)

    @staticmethod
    def _mask(closed: Tensor, eye: Tensor) -> Tensor:
        closed = torch.where(closed.all(dim=2, keepdim=True), ~eye, closed)
        return closed.repeat_interleave(HEADS, dim=0)
