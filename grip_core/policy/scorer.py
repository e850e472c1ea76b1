"""The scorer: visual tokens, a question and a budget in, one score per visual token out.

Shape legend: B prompts, N visual tokens, L question tokens, D the VLM's hidden size, C the scorer's own width, F
features of a position.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel

from grip_core.vlm.context import Context

OCTAVES = 4  # of a token's place: the highest tells apart neighbours on a grid of sixteen


def octaves(values: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of `values` (..., A), in [0, 1], at OCTAVES frequencies: (..., F = 2 * OCTAVES * A)."""
    angles = values[..., None] * (torch.pi * 2.0 ** torch.arange(OCTAVES, device=values.device))
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class ScorerConfiguration(PreTrainedConfig):
    """`input_width` is the VLM's hidden size D; `width` is C."""

    model_type = "grip_scorer"

    def __init__(self, input_width: int = 128, width: int = 64, layers: int = 2, heads: int = 4, **kwargs) -> None:
        super().__init__(**kwargs)
        self.input_width = input_width
        self.width = width
        self.layers = layers
        self.heads = heads


class Block(nn.Module):
    """A pre-norm transformer layer. No dropout: the old and the new log-probabilities must come from one function."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x_BTC: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        batch, length, width = x_BTC.shape
        qkv = self.qkv(self.norm_attention(x_BTC)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_BT[:, None, None, :])
        x_BTC = x_BTC + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x_BTC + self.down(F.gelu(self.up(self.norm_mlp(x_BTC))))


class Scorer(PreTrainedModel):
    """Scores visual tokens for a budget; any N, any budget, any question length."""

    config_class = ScorerConfiguration
    supports_gradient_checkpointing = False

    def __init__(self, config: ScorerConfiguration) -> None:
        super().__init__(config)
        self.visual_norm = nn.LayerNorm(config.input_width)
        self.visual_in = nn.Linear(config.input_width, config.width)
        self.place_in = nn.Linear(4 * OCTAVES, config.width)
        self.question_norm = nn.LayerNorm(config.input_width)
        self.question_in = nn.Linear(config.input_width, config.width)
        self.budget_in = nn.Sequential(nn.Linear(2, config.width), nn.GELU(), nn.Linear(config.width, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.score = nn.Linear(config.width, 1)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
        if module is self.score:
            nn.init.zeros_(module.weight)

    def forward(self, context: Context, k_B: torch.Tensor) -> torch.Tensor:
        """Scores (B, N), float32; -inf where a visual token pads.

        The budget enters as log(k / N) and log(k), N counting each prompt's real tokens. Places enter as shares of the
        grid's height and width: a question may name one ("at row 2"), and tokens need not carry theirs.
        """
        visual_BNC = self.visual_in(self.visual_norm(context.visual_BND.to(self.dtype)))
        visual_BNC = visual_BNC + self.place_in(octaves(places(context)).to(self.dtype))
        question_BLC = self.question_in(self.question_norm(context.question_BLD.to(self.dtype)))
        log_k = k_B.to(self.dtype).log()
        log_n = context.visual_mask_BN.sum(1).to(self.dtype).log()
        budget_B1C = self.budget_in(torch.stack([log_k - log_n, log_k], dim=-1))[:, None]
        x_BTC = torch.cat([visual_BNC + budget_B1C, question_BLC, budget_B1C], dim=1)
        mask_BT = torch.cat(
            [context.visual_mask_BN, context.question_mask_BL, torch.ones_like(k_B, dtype=torch.bool)[:, None]], dim=1
        )
        for block in self.blocks:
            x_BTC = block(x_BTC, mask_BT)
        n = context.n_visual
        scores_BN = self.score(self.norm(x_BTC[:, :n]))[..., 0].float()
        return scores_BN.masked_fill(~context.visual_mask_BN, float("-inf"))


def places(context: Context) -> torch.Tensor:
    """Row and column of every visual token as shares of its grid's height and width, (B, N, 2); 0 on padding."""
    mask_BN1 = context.visual_mask_BN[..., None]
    grid_BN2 = context.grid_BN2.masked_fill(~mask_BN1, 0)
    size_B12 = grid_BN2.amax(1, keepdim=True) + 1
    return ((grid_BN2 + 0.5) / size_B12).masked_fill(~mask_BN1, 0.0)
