"""The bundled text tower in torch: a small open_clip text transformer."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a text tower; written beside its weights."""

    vocabulary: int = 6000
    context_length: int = 128
    width: int = 192
    heads: int = 6
    layers: int = 3
    embedding: int = 256

    def as_dict(self) -> dict:
        return asdict(self)


class TextTower(nn.Module):
    """Tokens N x L (int64) -> unit embeddings N x D.

    The end token has the highest id, so `argmax` finds it; the mask is causal, so padding behind
    the end changes nothing.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = TextTransformer(
            context_length=config.context_length,
            vocab_size=config.vocabulary,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            output_dim=config.embedding,
            pool_type="argmax",
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.transformer(tokens).float(), dim=1)


class TextGraph(nn.Module):
    """What is trained and exported: the tower over tokens cut to the longest text of the call.

    The same sums as open_clip's blocks, with attention written out, since the exporter fixes the
    batch size inside `nn.MultiheadAttention`.
    """

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        # the end token, found without a gather over a data-dependent index
        x = self.states(tokens)
        is_end = (tokens == tokens.max(dim=1, keepdim=True).values).to(x.dtype)
        pooled = (x * is_end.unsqueeze(2)).sum(1) / is_end.sum(1, keepdim=True)
        return F.normalize(pooled @ self.tower.transformer.text_projection, dim=1)

    def states(self, tokens: Tensor) -> Tensor:
        """What every token has come to mean, N x L x width; its end token's state is the text's."""
        t = self.tower.transformer
        length = tokens.shape[1]
        x = t.token_embedding(tokens) + t.positional_embedding[:length]
        mask = torch.full((length, length), float("-inf")).triu(1)
        for block in t.transformer.resblocks:
            x = x + block.ls_1(_attention(block.attn, block.ln_1(x), mask))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        return t.ln_final(x)


def _attention(attention: nn.MultiheadAttention, x: Tensor, mask: Tensor) -> Tensor:
    """Self-attention of N x L x C with the weights of `attention`."""
    n, length, _ = x.shape
    heads, size = attention.num_heads, attention.head_dim
    packed = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = (part.view(n, length, heads, size).transpose(1, 2) for part in packed.chunk(3, 2))
    weights = (q @ k.transpose(2, 3) * size**-0.5 + mask.to(q.dtype)).softmax(dim=-1)
    return attention.out_proj((weights @ v).transpose(1, 2).reshape(n, length, heads * size))
