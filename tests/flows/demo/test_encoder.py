from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.encoder.config import EncoderConfig
from actors.encoder.model import Encoder
from flows.demo.data import grey, split_digits
from flows.demo.encoder import TrainedEncoder, encoder_spec, train_encoder

SPLIT = split_digits(0)


@pytest.fixture(scope="module")
def trained(slow: None) -> TrainedEncoder:
    return train_encoder(SPLIT.encoder, SPLIT.encoder_labels, seed=0, steps=120)


def test_it_classifies_digits_that_it_never_saw(trained: TrainedEncoder) -> None:
    assert trained.accuracy(SPLIT.held_out, SPLIT.held_out_labels) > 0.8


def test_the_audit_loads_the_checkpoint_and_sees_the_same_tokens(trained: TrainedEncoder, tmp_path: Path) -> None:
    spec = encoder_spec(str(trained.save(tmp_path / "digits.safetensors")))
    config = EncoderConfig(
        spec["model"], spec["weights"], json.dumps(spec["model_args"]), spec["image_size"], spec["pooling"]
    )
    digits = SPLIT.held_out[:5]
    layers = Encoder(config).embed(np.repeat(grey(digits)[..., None], 3, axis=3))
    assert sorted(layers) == list(range(7))
    pixels = torch.from_numpy(grey(digits)[:, None].repeat(3, axis=1)).float() / 127.5 - 1
    with torch.no_grad():
        blocks = trained.backbone.forward_intermediates(pixels, output_fmt="NLC", intermediates_only=True)
    np.testing.assert_allclose(layers[6], blocks[-1].mean(1).numpy(), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["digits.safetensors"]


def test_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    written = []
    threads = torch.get_num_threads()
    try:
        for number, (seed, count) in enumerate([(0, 1), (0, 2), (1, 1)]):
            torch.set_num_threads(count)
            torch.rand(number)
            model = train_encoder(SPLIT.encoder, SPLIT.encoder_labels, seed=seed, steps=3)
            assert torch.get_num_threads() == count
            written.append(model.save(tmp_path / f"{number}.safetensors").read_bytes())
    finally:
        torch.set_num_threads(threads)
    assert written[0] == written[1] != written[2]
