"""The tiny models of conftest with more decoder layers, for what happens between them."""

from __future__ import annotations

import copy

import torch

from tests.families import Family


def deeper(family: Family, n_layers: int) -> Family:
    """A copy of the family whose decoder has `n_layers` layers, each of other random weights."""
    vlm = copy.deepcopy(family.vlm)
    text = vlm.language_model
    shared = text.config  # by which a model switches the attention of all its layers
    layers = [copy.deepcopy(text.layers[0], {id(shared): shared}) for _ in range(n_layers)]
    generator = torch.Generator().manual_seed(3)
    for number, layer in enumerate(layers):
        layer.self_attn.layer_idx = number
        for parameter in layer.parameters():
            if parameter.ndim > 1:
                scale = 1.5 * parameter.shape[1] ** -0.5
                parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    text.layers = torch.nn.ModuleList(layers)
    text.config.num_hidden_layers = n_layers
    text.config.layer_types = ["full_attention"] * n_layers
    return Family(vlm, family.images, family.stock_inputs)
