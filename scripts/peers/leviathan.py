#!/usr/bin/env python3
"""The training step of `arrakis leviathan train` in Python's torch: the same model, the same optimiser, tokens per second.

Needs torch==2.11.0. Compare with `cargo bench -p arrakis --bench steps`, on the same machine with the same threads:

    python scripts/peers/leviathan.py --text FILE --mixer attention --threads 2 --steps 100
    OMP_NUM_THREADS=2 cargo bench -p arrakis --bench steps

`--mixer separable:4` and `diagonal:4` run Leviathan's forms, written plainly. Sizes are those of `train`'s defaults (49,904 parameters).
"""

import argparse
import math
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads, neurons, window, diagonal):
        super().__init__()
        self.heads, self.window, self.diagonal = heads, window, diagonal
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, neurons), nn.Linear(neurons, width)
        if window > 1:
            lags = torch.zeros(heads if diagonal else 2 * heads, window)
            lags[:, 0] = 1.0
            self.lags = nn.Parameter(lags + 0.1 * torch.randn_like(lags))

    def forward(self, x, cos, sin):
        batch, pos, width = x.shape
        d_head = width // self.heads
        qkv = self.qkv(self.ln1(x)).view(batch, pos, 3 * self.heads, d_head)
        qk, v = qkv[:, :, : 2 * self.heads], qkv[:, :, 2 * self.heads :].transpose(1, 2)
        half = d_head // 2
        qk = qk * cos + torch.cat([-qk[..., half:], qk[..., :half]], -1) * sin
        if self.window > 1:
            padded = F.pad(qk, (0, 0, 0, 0, self.window - 1, 0))
            shifted = [padded[:, self.window - 1 - lag :][:, :pos] for lag in range(self.window)]
            if self.diagonal:
                weights = torch.cat([self.lags, torch.ones_like(self.lags)])
                qk = torch.cat([x * weights[:, lag, None] for lag, x in enumerate(shifted)], -1)
            else:
                mixed = qk * self.lags[:, 0, None]
                for lag in range(1, self.window):
                    mixed = torch.addcmul(mixed, shifted[lag], self.lags[:, lag, None])
                qk = mixed
        q, k = qk[:, :, : self.heads].transpose(1, 2), qk[:, :, self.heads :].transpose(1, 2)
        scale = 1 / math.sqrt(d_head)
        v = F.pad(v, (0, q.shape[-1] - d_head))  # The fused kernel wants one width.
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)[..., :d_head]
        x = x + self.out(z.transpose(1, 2).reshape(batch, pos, width))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self, vocab, width=40, heads=2, neurons=192, layers=2, context=512, window=1, diagonal=False):
        super().__init__()
        self.embed, self.unembed = nn.Embedding(vocab, width), nn.Linear(width, vocab, bias=False)
        self.blocks = nn.ModuleList(Block(width, heads, neurons, window, diagonal) for _ in range(layers))
        self.ln = nn.LayerNorm(width)
        d_head = width // heads
        frequencies = 10_000.0 ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
        half = torch.arange(context, dtype=torch.float64)[:, None] * frequencies
        angles = torch.cat([half, half], -1)[None, :, None]
        self.register_buffer("cos", angles.cos().float())
        self.register_buffer("sin", angles.sin().float())

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.unembed(self.ln(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--mixer", default="attention", choices=["attention", "separable:4", "diagonal:4"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    text = open(arguments.text, encoding="utf-8").read()
    characters = sorted(set(text))
    ids = torch.tensor([characters.index(c) for c in text[: len(text) * 9 // 10]])
    window, diagonal = 1 if arguments.mixer == "attention" else 4, arguments.mixer == "diagonal:4"
    model = Model(len(characters), window=window, diagonal=diagonal)
    print(sum(p.numel() for p in model.parameters()), "parameters")
    matrices = [p for p in model.parameters() if p.dim() > 1 and p.shape[-1] != 4]
    others = [p for p in model.parameters() if not (p.dim() > 1 and p.shape[-1] != 4)]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), foreach=True)
    context, seconds = 512, []
    for step in range(arguments.steps):
        start = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / arguments.steps))
        places = torch.randint(len(ids) - context, (arguments.batch,)).tolist()
        tokens = torch.stack([ids[p : p + context] for p in places])
        targets = torch.stack([ids[p + 1 : p + 1 + context] for p in places])
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    middle = sorted(seconds)[len(seconds) // 2]
    print(f"{1000 * middle:.1f} ms a step, {arguments.batch * context / middle:,.0f} tokens/s, loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
