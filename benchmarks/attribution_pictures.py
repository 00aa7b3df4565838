"""Pictures of the attribution benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.open_set import Reliability, Share

_COLOURS = [f"C{i}" for i in range(10)]


def draw_confusion(names: Sequence[str], truth: Sequence[str], named: Sequence[str], title: str, path: Path) -> None:
    """Rows: who made the batch; columns: who was named; numbers: batches."""
    count = np.zeros((len(names), len(names)), int)
    for made, said in zip(truth, named, strict=True):
        count[names.index(made), names.index(said)] += 1
    figure, axes = plt.subplots(figsize=(7.5, 6.8), layout="constrained")
    axes.imshow(count, cmap="Blues", vmin=0, vmax=count.max() * 1.6)
    for (i, j), number in np.ndenumerate(count):
        if number:
            axes.text(j, i, str(number), ha="center", va="center", color="black" if i == j else "#c02020")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), ylabel="made by", xlabel="attributed to", title=title)
    axes.set_xticklabels(names, rotation=45, ha="right", fontsize=8)
    axes.set_yticklabels(names, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_reliability(found: Reliability, title: str, path: Path) -> None:
    """Accuracy against stated confidence, a point a bin."""
    figure, axes = plt.subplots(figsize=(4.6, 4.4), layout="constrained")
    axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1, label="honest")
    axes.plot(found.confidence, found.accuracy, marker="o", color=_COLOURS[0], label=f"ECE {found.ece:.3f}")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="stated confidence", ylabel="observed accuracy", title=title)
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_sizes(sizes: Sequence[int], accuracies: Mapping[str, Sequence[Share]], title: str, path: Path) -> None:
    """Accuracy against images in a batch, with Wilson intervals, a line a method."""
    figure, axes = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    for i, (name, shares) in enumerate(accuracies.items()):
        x = np.array(sizes) * 1.015 ** (i - len(accuracies) / 2)
        value = np.array([share.value for share in shares])
        low, high = (np.array([getattr(share, end) for share in shares]) for end in ("low", "high"))
        axes.errorbar(
            x, value, [value - low, high - value], marker="o", markersize=4, capsize=2, color=_COLOURS[i], label=name,
            linewidth=2.2 if i == 0 else 1.2,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    axes.minorticks_off()
    axes.set(ylim=(0, 1.03), xlabel="images in a batch", ylabel="attributed rightly", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
