"""The encoder of the demo: a small timm VisionTransformer, trained to classify the digits of the encoder part."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from flows.demo.generators import LEVELS, SIDE, Digits, one_thread

MODEL = "vit_tiny_patch16_224"
MODEL_ARGS: dict[str, Any] = {"img_size": SIDE, "patch_size": 4, "embed_dim": 64, "depth": 6, "num_heads": 4}
BATCH = 96
LEARNING_RATE = 2e-3


class TrainedEncoder(NamedTuple):
    """The backbone that the audit loads, and the linear head that it was trained with, which is not saved."""

    backbone: Any
    head: nn.Linear

    def save(self, path: Path) -> Path:
        """Write the state dict of the backbone as safetensors, atomically."""
        part = path.with_name(path.name + ".part")
        save_file({name: value.contiguous() for name, value in self.backbone.state_dict().items()}, part)
        return part.rename(path)

    def accuracy(self, digits: Digits, labels: NDArray[np.int64]) -> float:
        """Share of digits, (n, 8, 8) uint8 0..16, that are classified correctly."""
        with one_thread(), torch.no_grad():
            predicted = _logits(self, torch.from_numpy(digits)[:, None].float()).argmax(1)
        return float((predicted.numpy() == labels).mean())


def encoder_spec(weights: str) -> dict[str, Any]:
    """The `encoder` of a spec for a checkpoint at a path or URI.

    >>> encoder_spec("digits.safetensors")["image_size"]
    8
    """
    return {
        "model": MODEL,
        "weights": weights,
        "model_args": dict(MODEL_ARGS),
        "image_size": SIDE,
        "pooling": "mean",
        "layers": "all",
    }


def train_encoder(digits: Digits, labels: NDArray[np.int64], *, seed: int, steps: int = 400) -> TrainedEncoder:
    """Train a new encoder to classify digits under mild shifts, rotations, shears and contrast changes.

    Args:
        digits: (n, 8, 8) uint8, 0..16.
        labels: (n,) int64, 0..9.
        seed: Seed of the initial weights, the batches and the augmentation; the result depends on nothing else.
        steps: Optimizer steps of 96 digits.
    """
    pixels, target = torch.from_numpy(digits)[:, None].float(), torch.from_numpy(labels)
    noise = torch.Generator().manual_seed(seed)
    with one_thread():
        model = _fresh_encoder(seed)
        weights = [*model.backbone.parameters(), *model.head.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15)
        model.backbone.train()
        for _ in range(steps):
            batch = torch.randint(len(pixels), (BATCH,), generator=noise)
            logits = _logits(model, _augment(pixels[batch], noise))
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(logits, target[batch], label_smoothing=0.05))
            optimizer.step()
            schedule.step()
        model.backbone.eval()
    return model


def _fresh_encoder(seed: int) -> TrainedEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = timm.create_model(MODEL, pretrained=False, num_classes=0, **MODEL_ARGS)
        for name, weight in backbone.named_parameters():
            if name.endswith("weight") and weight.ndim > 1:
                # timm's 0.02 suits long schedules; at 64 dimensions it costs a hundred steps.
                nn.init.xavier_uniform_(weight.flatten(1))
        return TrainedEncoder(backbone, nn.Linear(backbone.num_features, 10))


def _logits(model: TrainedEncoder, pixels: Tensor) -> Tensor:
    """Classify (n, 1, 8, 8) levels by the mean of the patch tokens, as the audit pools them."""
    mean, std = model.backbone.pretrained_cfg["mean"][0], model.backbone.pretrained_cfg["std"][0]
    tokens = model.backbone.forward_features(((pixels / LEVELS - mean) / std).expand(-1, 3, -1, -1))
    logits: Tensor = model.head(tokens[:, model.backbone.num_prefix_tokens :].mean(1))
    return logits


def _augment(pixels: Tensor, noise: torch.Generator) -> Tensor:
    """Rotate (±11°), scale and shear (±15 %), shift (±0.7 pixel) and change the contrast of (n, 1, 8, 8) digits."""
    turn, scale, shear, right, down, gain = (torch.rand(6, len(pixels), generator=noise) - 0.5).unbind()
    cos, sin, scale = torch.cos(0.4 * turn), torch.sin(0.4 * turn), 1 + 0.3 * scale
    first = torch.stack([scale * cos, 0.3 * shear - scale * sin, 0.35 * right], 1)
    second = torch.stack([scale * sin, scale * cos, 0.35 * down], 1)
    grid = functional.affine_grid(torch.stack([first, second], 1), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, align_corners=False)
    return (moved * (1 + 0.3 * gain)[:, None, None, None]).clamp(0, LEVELS)
