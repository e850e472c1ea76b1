"""Visual features that are added to the visual tokens after each of the first decoder layers (DeepStack, Meng et al.
2024), done here and not by the model, so that it also holds for tokens that are dropped between layers.

Shape legend: R rows, K kept tokens, M layers that add, S tokens at a layer, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from transformers import PreTrainedModel


class DeepStack:
    """What is added, and where the tokens are to which it is: for one forward pass."""

    def __init__(self, values_RKMD: torch.Tensor, place_RK: torch.Tensor, mask_RK: torch.Tensor) -> None:
        self._values_RKMD = values_RKMD
        self._place_RK = place_RK
        self._mask_RK = mask_RK

    @property
    def n_layers(self) -> int:
        """M."""
        return self._values_RKMD.shape[2]

    def move(self, place_RS: torch.Tensor, keep_RS: torch.Tensor) -> None:
        """The tokens of `keep_RS` have gone to the places `place_RS`, the others are gone."""
        self._mask_RK = self._mask_RK & keep_RS.gather(1, self._place_RK)
        self._place_RK = place_RS.gather(1, self._place_RK).masked_fill(~self._mask_RK, 0)

    def add(self, layer: int, hidden_RSD: torch.Tensor) -> torch.Tensor:
        """The hidden states after decoder layer `layer` with what is added there."""
        values_RKD = self._values_RKMD[:, :, layer].masked_fill(~self._mask_RK[..., None], 0.0).to(hidden_RSD.device)
        place_RK1 = self._place_RK[..., None].to(hidden_RSD.device)
        return hidden_RSD.scatter_add(1, place_RK1.expand_as(values_RKD), values_RKD)


@contextmanager
def stacked(language_model: PreTrainedModel, deep: DeepStack | None) -> Iterator[None]:
    """While the block runs, a pass over the prompt that `deep` belongs to adds it to the visual tokens.

    Raises ValueError if the decoder has not more layers than add to them.
    """
    if deep is None:
        yield
        return
    layers = language_model.layers
    if deep.n_layers >= len(layers):
        raise ValueError(f"the last layer cannot add to visual tokens, but {deep.n_layers} of {len(layers)} layers do")

    def hook(layer: int, module, args, kwargs):
        (hidden_RSD,) = args
        return (deep.add(layer, hidden_RSD),), kwargs

    # Before the next layer is after this one; a cut at the next layer has then been made already.
    handles = [
        following.register_forward_pre_hook(partial(hook, layer), with_kwargs=True)
        for layer, following in enumerate(layers[1 : deep.n_layers + 1])
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
