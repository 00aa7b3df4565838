from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.data import resolve_model_data_config
from timm.layers import resample_abs_pos_embed

from actors.encoder.config import EncoderConfig, EncoderFacts
from actors.encoder.model import Encoder, read_state_dict
from storage.digest import digest
from storage.errors import InputError
from tests.actors.conftest import TINY, pictures

SMALL = replace(TINY, model="vit_small_patch16_224", model_args='{"depth": 4}', image_size=64)
REGISTERS = replace(
    TINY, model="vit_small_patch16_224", model_args='{"depth": 2, "embed_dim": 48, "num_heads": 3, "reg_tokens": 2}'
)
CNN = replace(TINY, model="test_efficientnet")
BFLOAT16_UNIT = 2.0**-8
"""Largest relative error of one rounding to 8 significant bits; float16 has 11."""
ROUNDINGS = 8
"""So many in a row at most: measured were 1.9 over 6 blocks of a ViT, 4.4 over the stages of a CNN."""


def _strong(model: str, **arguments: Any) -> dict[str, torch.Tensor]:
    """Weights far from their small beginnings, so that the layers differ much."""
    state = timm.create_model(model, num_classes=0, **arguments).state_dict()
    noise = torch.Generator().manual_seed(1)
    return {
        k: t + 0.1 * torch.randn(t.shape, generator=noise) if t.is_floating_point() else t for k, t in state.items()
    }


def _saved(folder: Path, state: dict[str, torch.Tensor], name: str = "weights.safetensors") -> str:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.fixture(scope="module")
def strong(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of strong weights for `TINY`."""
    return _saved(tmp_path_factory.mktemp("weights"), _strong("test_vit", img_size=32))


def _by_timm(config: EncoderConfig, images: NDArray[np.uint8]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Per layer the prefix tokens (b, p, d) and the patch tokens (b, t, d), by timm alone."""
    arguments = json.loads(config.model_args)
    model: Any = timm.create_model(config.model, num_classes=0, img_size=config.image_size, **arguments)
    model.load_state_dict(read_state_dict(config.weights))
    model.eval()
    data = resolve_model_data_config(model)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    x = ((x - torch.tensor(data["mean"])[:, None, None]) / torch.tensor(data["std"])[:, None, None]).float()
    with torch.no_grad():
        entry = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
        layers = model.forward_intermediates(
            x, indices=None, norm=False, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
        )
    first = (entry[:, : model.num_prefix_tokens], entry[:, model.num_prefix_tokens :])
    return [first, *((prefix, patches) for patches, prefix in layers)]


class TestLayers:
    @pytest.mark.parametrize(
        ("config", "arguments"),
        [
            (TINY, {"img_size": 32}),
            (SMALL, {"img_size": 64, "depth": 4}),
            (REGISTERS, {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3, "reg_tokens": 2}),
        ],
        ids=["test_vit", "vit_small", "registers"],
    )
    @pytest.mark.parametrize("pooling", ["mean", "cls"])
    def test_they_are_what_timm_gives(
        self, config: EncoderConfig, arguments: dict[str, Any], pooling: Any, tmp_path: Path
    ) -> None:
        weights = _saved(tmp_path, _strong(config.model, **arguments))
        config = replace(config, weights=weights, pooling=pooling)
        images = pictures(3, config.image_size)
        expected = _by_timm(config, images)
        embedded = Encoder(config).embed(images)
        assert list(embedded) == list(range(len(expected)))
        for layer, (prefix, patches) in enumerate(expected):
            pooled = (patches.mean(dim=1) if pooling == "mean" else prefix[:, 0]).numpy()
            assert embedded[layer].dtype == np.float32
            assert np.abs(embedded[layer] - pooled).max() < 2e-5 * max(1, np.abs(pooled).max())

    def test_layer_0_of_the_class_token_is_constant(self, tiny: Encoder) -> None:
        first = Encoder(replace(TINY, pooling="cls")).embed(pictures(4))[0]
        assert (first == first[0]).all()
        assert not (tiny.embed(pictures(4))[0] == first).all()

    def test_chosen_layers_are_those_of_all(self, tiny: Encoder) -> None:
        chosen = Encoder(replace(TINY, layers=(5, 0, 3, 3)))
        assert chosen.layers == (0, 3, 5)
        assert list(chosen.facts.dims) == [0, 3, 5]
        embedded, full = chosen.embed(pictures(4)), tiny.embed(pictures(4))
        assert list(embedded) == [0, 3, 5]
        assert all((embedded[k] == full[k]).all() for k in embedded)

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    @pytest.mark.parametrize("model", ["strong", "vit_small", "cnn"])
    def test_a_lower_precision_is_near_and_another_encoder(self, strong: str, precision: Any, model: str) -> None:
        config = {"strong": replace(TINY, weights=strong), "vit_small": SMALL, "cnn": CNN}[model]
        images = pictures(8, config.image_size)
        full, low = Encoder(config), Encoder(replace(config, precision=precision))
        expected, embedded = full.embed(images), low.embed(images)
        unit = BFLOAT16_UNIT if precision == "bfloat16" else BFLOAT16_UNIT / 8
        for layer, x in expected.items():
            assert embedded[layer].dtype == np.float32
            error = np.linalg.norm(embedded[layer] - x, axis=1) / np.linalg.norm(x, axis=1)
            assert 0 < error.max() < ROUNDINGS * unit, layer
        assert low.facts == replace(full.facts, digest=low.facts.digest, precision=precision)
        assert low.facts.digest != full.facts.digest

    @pytest.mark.parametrize("config", [SMALL, CNN], ids=["vit", "cnn"])
    @pytest.mark.parametrize("images", [2, 3, 40])
    def test_passes_side_by_side_give_the_same(self, config: EncoderConfig, images: int) -> None:
        encoder = Encoder(config, passes=3)
        for seed in range(3):  # parts in flight at once must not mix
            shown = pictures(images, config.image_size, seed=seed)
            for layer, expected in Encoder(config).embed(shown).items():
                embedded = encoder.embed(shown)[layer]
                assert embedded.shape == expected.shape
                assert np.abs(embedded - expected).max() < 2e-5 * max(1, np.abs(expected).max())

    def test_precision_leaves_older_digests_alone(self, tiny: Encoder) -> None:
        identity = asdict(tiny.facts)
        for later in ("digest", "names", "precision"):
            del identity[later]
        preprocessing = "upright RGB on white; shorter side resized to image_size, central square; float32"
        assert tiny.facts.digest == digest(preprocessing=preprocessing, model_args={}, **identity)
        older = json.loads(tiny.facts.to_json())
        del older["precision"]
        assert EncoderFacts.from_json(json.dumps(older).encode()) == tiny.facts

    @pytest.mark.parametrize("config", [TINY, SMALL, REGISTERS], ids=["tiny", "small", "registers"])
    def test_patch_tokens_are_those_that_are_pooled(self, config: EncoderConfig) -> None:
        encoder, images = Encoder(config), pictures(3, config.image_size)
        pooled = encoder.embed(images)
        for layer in (1, encoder.layers[-1]):
            tokens = encoder.patch_tokens(images, layer)
            assert tokens.shape[::2] == (3, pooled[layer].shape[1])
            assert np.allclose(tokens.mean(axis=1), pooled[layer], atol=1e-5)

    def test_patch_tokens_leave_the_pooled_ones_alone(self) -> None:
        encoder, images = Encoder(TINY), pictures(2)
        before = encoder.embed(images)
        with ThreadPoolExecutor(1) as thread:  # a thread that has pooled nothing yet
            thread.submit(encoder.patch_tokens, images, 1).result()
        encoder.patch_tokens(images, 1)
        after = encoder.embed(images)
        assert all(np.array_equal(before[layer], after[layer]) for layer in encoder.layers)

    def test_patches_lie_row_by_row(self) -> None:
        encoder, images = Encoder(TINY), pictures(1)
        changed = images.copy()
        changed[:, : TINY.image_size // 4, -(TINY.image_size // 4) :] ^= 255  # the corner at the upper right
        moved = np.abs(encoder.patch_tokens(changed, 1) - encoder.patch_tokens(images, 1)).sum(axis=2)[0]
        side = round(len(moved) ** 0.5)
        assert int(moved.argmax()) % side >= side // 2
        assert int(moved.argmax()) // side < side // 2

    def test_patch_tokens_of_a_cnn_are_places_of_a_stage(self) -> None:
        encoder, images = Encoder(CNN), pictures(2, CNN.image_size)
        assert np.allclose(encoder.patch_tokens(images, 1).mean(axis=1), encoder.embed(images)[1], atol=1e-5)

    def test_a_cnn_gives_its_stages(self) -> None:
        encoder = Encoder(CNN)
        torch.manual_seed(0)
        model: Any = timm.create_model("test_efficientnet", num_classes=0).eval()
        data = resolve_model_data_config(model)
        images = pictures(3)
        x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        x = (x - torch.tensor(data["mean"])[:, None, None]) / torch.tensor(data["std"])[:, None, None]
        with torch.no_grad():
            stages = model.forward_intermediates(x, intermediates_only=True)
        embedded = encoder.embed(images)
        assert [x.shape for x in embedded.values()] == [(3, stage.shape[1]) for stage in stages]
        for layer, stage in enumerate(stages):
            assert np.allclose(embedded[layer], stage.mean(dim=(2, 3)).numpy(), atol=1e-6)
        assert encoder.facts.names[1] == "stage 1"

    def test_names_and_sizes(self, tiny: Encoder) -> None:
        assert tiny.facts.dims == dict.fromkeys(range(7), 64)
        assert (tiny.facts.names[0], tiny.facts.names[6]) == ("embedding output", "after block 6")


class TestBatches:
    @pytest.mark.parametrize("batch", [1, 7, 32])
    @pytest.mark.parametrize("config", [TINY, SMALL, CNN], ids=["test_vit", "vit_small", "cnn"])
    def test_an_embedding_does_not_depend_on_its_batch(self, config: EncoderConfig, batch: int, strong: str) -> None:
        encoder = Encoder(replace(config, weights=strong)) if config is TINY else Encoder(config)
        images = pictures(64, config.image_size)
        full = encoder.embed(images)
        parts = [encoder.embed(images[i : i + batch]) for i in range(0, 64, batch)]
        for layer, x in full.items():
            assert np.abs(np.concatenate([part[layer] for part in parts]) - x).max() <= 1e-5
            assert np.ptp(x, axis=0).max() > 1e-3  # images do differ


class TestDigest:
    @pytest.mark.parametrize(
        "change",
        [{"image_size": 48}, {"pooling": "cls"}, {"layers": (0, 1)}, {"seed": 1}, {"model_args": '{"depth": 5}'}],
        ids=str,
    )
    def test_it_changes_with_what_decides_the_embeddings(self, tiny: Encoder, change: dict[str, Any]) -> None:
        assert Encoder(replace(TINY, **change)).facts.digest != tiny.facts.digest

    def test_one_changed_weight_changes_it(self, tmp_path: Path, tiny: Encoder) -> None:
        state = tiny.model.state_dict()
        same = Encoder(replace(TINY, weights=_saved(tmp_path, state)))
        assert same.facts.digest == tiny.facts.digest
        state["blocks.3.mlp.fc1.bias"] = state["blocks.3.mlp.fc1.bias"].clone()
        state["blocks.3.mlp.fc1.bias"][7] += 1e-7
        changed = Encoder(replace(TINY, weights=_saved(tmp_path, state, "changed.safetensors")))
        assert changed.facts.digest != tiny.facts.digest

    def test_it_does_not_change_with_the_file_format(self, tmp_path: Path) -> None:
        state = _strong("test_vit", img_size=32)
        files = [_saved(tmp_path, state), _saved(tmp_path, state, "weights.pth")]
        for name in ("state_dict", "model"):
            wrapped = {name: {f"module.{k}": t for k, t in state.items()}, "epoch": 3}
            torch.save(wrapped, tmp_path / f"{name}.pth")
            files.append(str(tmp_path / f"{name}.pth"))
        facts = {Encoder(replace(TINY, weights=file)).facts.digest for file in files}
        assert len(facts) == 1

    def test_a_classifier_in_the_file_does_not_matter(self, tmp_path: Path) -> None:
        state = _strong("test_vit", img_size=32)
        head = {"head.weight": torch.ones(10, 64), "head.bias": torch.ones(10)}
        plain, with_head = _saved(tmp_path, state), _saved(tmp_path, state | head, "head.pth")
        digests = {Encoder(replace(TINY, weights=file)).facts.digest for file in (plain, with_head)}
        assert len(digests) == 1

    def test_random_weights_do_not_depend_on_what_was_drawn_before(self, tiny: Encoder) -> None:
        torch.rand(100)
        assert Encoder(TINY).facts.digest == tiny.facts.digest

    def test_facts_survive_json(self, tiny: Encoder) -> None:
        assert EncoderFacts.from_json(tiny.facts.to_json()) == tiny.facts


class TestWeights:
    def test_position_embeddings_are_resampled(self, tmp_path: Path) -> None:
        state = _strong("test_vit", img_size=64)
        encoder = Encoder(replace(TINY, weights=_saved(tmp_path, state)))
        assert state["pos_embed"].shape == (1, 16 + 1, 64)
        expected = resample_abs_pos_embed(state["pos_embed"], (2, 2), num_prefix_tokens=1)
        assert torch.allclose(encoder.model.pos_embed, expected, atol=1e-6)
        assert torch.equal(encoder.model.blocks[5].mlp.fc2.weight, state["blocks.5.mlp.fc2.weight"])

    def test_a_pickle_with_code_is_refused_and_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "owned",)

        for name, save in (("plain.pth", _pickled), ("zip.pth", torch.save)):
            save({"x": Evil()}, tmp_path / name)
            with pytest.raises(InputError, match=f"{name} cannot be read safely"):
                Encoder(replace(TINY, weights=str(tmp_path / name)))
        assert not (tmp_path / "owned").exists()
        pickle.loads((tmp_path / "plain.pth").read_bytes())
        assert (tmp_path / "owned").exists()  # it would have been

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"there is no file .*gone.pth"):
            Encoder(replace(TINY, weights=str(tmp_path / "gone.pth")))

    @pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
    @pytest.mark.parametrize("content", [b"", b"not weights at all" * 9], ids=["empty", "text"])
    def test_a_file_of_something_else(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"encoder.weights: .*{name}"):
            Encoder(replace(TINY, weights=str(tmp_path / name)))

    @pytest.mark.parametrize("content", [[torch.ones(2)], {"a": 1}, torch.ones(3)], ids=["list", "number", "tensor"])
    def test_a_file_that_is_not_a_state_dict(self, tmp_path: Path, content: object) -> None:
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(InputError, match="is not a state dict"):
            Encoder(replace(TINY, weights=str(tmp_path / "x.pth")))

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda s: s.pop("blocks.2.norm1.weight"), r"1 tensors missing \(blocks.2.norm1.weight\)"),
            (lambda s: s.update(extra=torch.ones(1)), r"1 that it does not have \(extra\)"),
            (lambda s: s.update({"blocks.0.norm1.weight": torch.ones(9)}), "size mismatch"),
            (lambda s: s.update({"pos_embed": torch.ones(3)}), "does not fit"),
            (lambda s: s.clear(), "tensors missing"),
        ],
        ids=["missing", "foreign", "shape", "position", "nothing"],
    )
    def test_weights_that_do_not_fit(self, tmp_path: Path, edit: Any, message: str) -> None:
        state = _strong("test_vit", img_size=32)
        edit(state)
        with pytest.raises(InputError, match=message) as raised:
            Encoder(replace(TINY, weights=_saved(tmp_path, state, "x.pth")))
        assert "test_vit" in raised.value.found

    def test_weights_of_another_model(self, tmp_path: Path) -> None:
        other = _saved(tmp_path, timm.create_model("test_efficientnet", num_classes=0).state_dict())
        with pytest.raises(InputError, match="does not fit test_vit"):
            Encoder(replace(TINY, weights=other))

    def test_the_hub_without_a_network(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(
            InputError, match=r"encoder\.weights: hub, but the weights of test_vit could not be fetched"
        ):
            Encoder(replace(TINY, weights="hub"))


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": "vit_smal_patch16"}, "has no model 'vit_smal_patch16'"),
            ({"model": "test_vit.no_such_tag"}, "encoder.model: test_vit.no_such_tag"),
            ({"model": ""}, "has no model ''"),
            ({"layers": (0, 7)}, r"\[7\] of \[0, 7\], but test_vit has layers 0 to 6"),
            ({"layers": (-1,)}, r"\[-1\]"),
            ({"image_size": 33}, "test_vit cannot take RGB images of 33 pixels"),
            ({"image_size": 0}, "0 pixels"),
            ({"model_args": '{"in_chans": 1}'}, "cannot take RGB images"),
            ({"model": "test_efficientnet", "pooling": "cls"}, "EfficientNet has no class token"),
            (
                {"pooling": "cls", "model_args": '{"class_token": false, "reg_tokens": 4, "global_pool": "avg"}'},
                "has no class token",
            ),
        ],
        ids=str,
    )
    def test_the_message_names_the_field(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message) as raised:
            Encoder(replace(TINY, **change))
        assert raised.value.remedy

    @pytest.mark.parametrize(
        "arguments",
        [
            {"nonsense": 1},
            {"depth": "six"},
            {"depth": 0},
            {"embed_dim": 65},
            {"embed_dim": -64},
            {"num_heads": 0},
            {"patch_size": 0},
            {"global_pool": "no such"},
            {"act_layer": "no such"},
            {"img_size": "large"},
        ],
        ids=str,
    )
    def test_model_args_that_the_model_refuses(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="encoder"):
            Encoder(replace(TINY, model_args=json.dumps(arguments)))


def _pickled(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))
