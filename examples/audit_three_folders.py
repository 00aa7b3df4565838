"""Audit a generator of digits from three folders of images; 5 % of its images are copies.

    python examples/audit_three_folders.py [FOLDER]

The script makes the images itself and needs no download. It takes about a minute on 2 cores. In an editor that knows
`# %%` cells, or in a notebook, show `audit` and `audit.pairs()` as they are: they draw themselves.
"""

# %%
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture

import layerprint

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "digits-audit")

ENCODER = {  # random weights need no download; for photographs: "vit_small_patch14_dinov2.lvd142m"
    "model": "vit_tiny_patch16_224",
    "weights": "random",
    "model_args": {"img_size": 32, "patch_size": 8, "depth": 6},
    "image_size": 32,
}


# %% Three folders of images: training, held out before training, generated
def make_images(folder: Path) -> None:
    """Write real digits, split at random, and what a mixture model fitted on one half generates."""
    rng = np.random.default_rng(0)
    pixels = rng.permutation(load_digits().data)  # 1,797 digits of 8 × 8 pixels, values 0 to 16
    train, held_out = pixels[:900], pixels[900:]
    model = GaussianMixture(30, covariance_type="full", reg_covar=0.6, random_state=0).fit(train)
    generated = rng.permutation(model.sample(500)[0])
    generated[:25] = train[:25]  # the copies that the audit shall find
    for name, images in {"train": train, "held_out": held_out, "generated": generated}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images.reshape(-1, 8, 8)):
            eight_bit = (np.clip(image, 0, 16) * 255 / 16).astype(np.uint8)
            Image.fromarray(eight_bit).save(folder / name / f"{i:04}.png")


# %% The audit
def main() -> layerprint.Audit:
    """Make the images, audit them, print the verdict and the images that are listed as copies, strongest first."""
    make_images(FOLDER)
    audit = layerprint.audit(
        train=FOLDER / "train",
        held_out=FOLDER / "held_out",
        images=FOLDER / "generated",
        name="mixture",
        encoder=ENCODER,
        store=FOLDER / "audits",
    )
    print(audit.verdict)
    print(audit.sentence)
    for copy in audit.copies.filter(audit.copies["listed"]).to_pylist():
        print(copy["image_key"], "is a copy of", copy["train_key"], f"(p = {copy['p_value']:.2g})")
    print("report:", audit.report(FOLDER / "report.html"))
    return audit


if __name__ == "__main__":
    main()
