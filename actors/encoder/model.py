"""The encoder: a timm model whose one forward pass gives an embedding per layer."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import resolve_model_data_config

from actors.encoder.config import EncoderConfig, EncoderFacts, Pooling, unusual
from actors.encoder.weights import local_weights
from storage.digest import digest
from storage.errors import InputError

# What timm and torch raise when arguments, sizes and tensors do not fit together.
_MODEL_ERRORS = (RuntimeError, AssertionError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError)


MOST_PATCHES = 8
"""Patches on a side for the copy score: its cost grows with their number to the fourth power."""


class Encoder:
    """A loaded model on its device.

    On a CPU a batch is cut into `passes` parts that go through the model in parallel, one thread each: torch's own
    threads synchronise in every layer, parallel passes only at their end. Two cores that also read and decode images
    embed 35 % more with 2 passes of one thread than with one pass of 2 threads; idle cores 6 %.

    Attributes:
        depth: The number of the last layer.

    Args:
        config: What to load.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        passes: Number of parallel forward passes; 1 uses torch's threads as they are set.

    Raises:
        InputError: The model is unknown, the weights do not fit, or it lacks the pooling or a layer.
    """

    def __init__(self, config: EncoderConfig, device: str = "cpu", passes: int = 1) -> None:
        self.config = config
        self.device = torch.device(device)
        torch.backends.cudnn.allow_tf32 = False  # TF32 keeps only 10 bits of the mantissa
        self.model = load_model(config)
        data = resolve_model_data_config(self.model)
        self._tap = _Tap(self.model, config.pooling)
        available = self._probe_layers()
        self.depth = max(available)
        self.layers = _chosen_layers(config, available)
        self.facts = _facts(config, self.model, data, {k: available[k] for k in self.layers}, self._tap.name)
        self.resample = Image.Resampling[self.facts.interpolation.upper()]
        self._mean = torch.tensor(data["mean"], device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(data["std"], device=self.device).view(1, 3, 1, 1)
        self.model.to(self.device)
        self._passes = passes
        self._parallel = ThreadPoolExecutor(passes, "pass", torch.set_num_threads, (1,)) if passes > 1 else None

    def embed(self, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        """Embed a batch.

        Args:
            images: (b, s, s, 3) uint8, s = the configured image size.

        Returns:
            Layer → (b, d) float32.
        """
        if self._parallel is None or len(images) < self._passes:
            return self._pass(images)
        parts = list(self._parallel.map(self._pass, np.array_split(images, self._passes)))
        return {k: np.concatenate([part[k] for part in parts]) for k in self.layers}

    def patch_tokens(self, images: NDArray[np.uint8], layer: int) -> NDArray[np.float32]:
        """The patch tokens of one layer; the layers behind it are not computed.

        Args:
            images: (b, s, s, 3) uint8, s = the configured image size.
            layer: A layer ≥ 1, as `embed` numbers them; of a CNN a stage from 0.

        Returns:
            (b, t, d) float32, the patches row by row, without class and register tokens. A grid with more than
            `MOST_PATCHES` on a side is averaged to so many.

        Raises:
            InputError: The model has no such layer.
        """
        if not self._tap.first <= layer <= self.depth:
            raise InputError(
                f"copies.layer: {layer}, but {self.config.model} has layers {self._tap.first} to {self.depth}",
                "choose one of them, or leave it out: then it is a third of the depth",
            )
        with torch.inference_mode(), self._products():
            grids = self.model.forward_intermediates(
                self._normalised(images),
                indices=[layer - self._tap.first],
                stop_early=True,
                output_fmt="NCHW",
                intermediates_only=True,
            )
            grid = grids[0].float()
            if max(grid.shape[2:]) > MOST_PATCHES:
                grid = torch.nn.functional.adaptive_avg_pool2d(grid, MOST_PATCHES)
            tokens: NDArray[np.float32] = grid.flatten(2).transpose(1, 2).contiguous().cpu().numpy()
            return tokens

    def _normalised(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """(b, 3, s, s) float32 as the model expects it."""
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).to(torch.float32)
        return (pixels / 255 - self._mean) / self._std

    def _pass(self, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        with torch.inference_mode():
            with self._products():
                pooled = self._tap.run(self._normalised(images))
            return {k: pooled[k].cpu().numpy() for k in self.layers}

    def _products(self) -> AbstractContextManager[object]:
        """The precision of matrix products: autocast for a lower one, else that of the weights."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.config.precision))

    def _probe_layers(self) -> dict[int, int]:
        size = self.config.image_size
        with torch.inference_mode():
            try:
                pooled = self._tap.run(torch.zeros(1, 3, size, size))
            except _MODEL_ERRORS as error:
                raise InputError(
                    f"encoder: {self.config.model} cannot take RGB images of {size} pixels: {_first_line(error)}",
                    "set encoder.image_size to a multiple of the patch size, or the model's own size",
                ) from error
        return {k: x.shape[1] for k, x in enumerate(pooled)}


class _Tap:
    """Pools the tokens of every layer during the forward pass, so that no tokens are kept.

    Layer 0 is the input of the first block (patch and position embedding), layer k the output of block k, before the
    final norm. For a model without blocks (a CNN) layers are the stages of timm's ``forward_intermediates``.
    """

    def __init__(self, model: Any, pooling: Pooling) -> None:
        self._model = model
        self._of_thread = threading.local()  # several passes may run at once
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))
        self._pooling = pooling
        blocks: list[Any] = list(getattr(model, "blocks", [])) if hasattr(model, "patch_embed") else []
        self._has_tokens = bool(blocks)
        class_token = blocks and self._prefix and getattr(model, "cls_token", None) is not None
        if pooling == "cls" and not class_token:
            raise InputError(
                f"encoder.pooling: cls, but {type(model).__name__} has no class token",
                "set encoder.pooling: mean",
            )
        if blocks:
            blocks[0].register_forward_pre_hook(lambda _m, args: self._keep(args[0]))
            for block in blocks:
                block.register_forward_hook(lambda _m, _args, output: self._keep(output))

    @property
    def first(self) -> int:
        """The layer that timm calls intermediate 0: it does not count the embedding output."""
        return int(self._has_tokens)

    def name(self, layer: int) -> str:
        """The name of a layer."""
        if not self._has_tokens:
            return f"stage {layer}"
        return f"after block {layer}" if layer else "embedding output"

    def run(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """One forward pass: (b, 3, s, s) → per layer (b, d) float32."""
        if not self._has_tokens:
            stages = self._model.forward_intermediates(pixels, output_fmt="NCHW", intermediates_only=True)
            return [stage.float().mean(dim=(2, 3)) for stage in stages]
        pooled: list[torch.Tensor] = []
        self._of_thread.pooled = pooled
        try:
            self._model.forward_features(pixels)
        finally:
            self._of_thread.pooled = None
        return pooled

    def _keep(self, tokens: torch.Tensor) -> None:
        pooled: list[torch.Tensor] | None = getattr(self._of_thread, "pooled", None)
        if pooled is None:  # a pass that does not pool
            return
        tokens = tokens.float()  # autocast leaves a lower precision; pooling is in float32
        if self._pooling == "cls":
            pooled.append(tokens[:, 0])
        elif tokens.ndim == 3:
            pooled.append(tokens[:, self._prefix :].mean(dim=1))
        else:  # (b, h, w, d)
            pooled.append(tokens.flatten(1, -2).mean(dim=1))


def load_model(config: EncoderConfig) -> Any:
    """Create the timm model with its weights, in evaluation mode, without a classifier.

    Raises:
        InputError: The model is unknown, its arguments are invalid, or the weights do not fit.
    """
    arguments = {"num_classes": 0, **json.loads(config.model_args)}
    if "img_size" not in arguments and _takes_img_size(config.model):
        arguments["img_size"] = config.image_size
    if config.weights == "random":
        torch.manual_seed(config.seed)
    try:
        model = timm.create_model(config.model, pretrained=config.weights == "hub", **arguments)
    except RuntimeError as error:
        raise _model_error(config, error) from error
    except _MODEL_ERRORS as error:
        raise InputError(
            f"encoder.model_args: {config.model} refused {config.model_args} at {config.image_size} pixels: "
            f"{type(error).__name__}: {_first_line(error)}",
            "use arguments of that timm model, for example img_size, patch_size, embed_dim, depth",
        ) from error
    except OSError as error:
        raise InputError(
            f"encoder.weights: hub, but the weights of {config.model} could not be fetched: {_first_line(error)}",
            "check the network (or HF_HUB_OFFLINE), or give encoder.weights a path to a state dict",
        ) from error
    if config.weights not in ("hub", "random"):
        fit_state_dict(model, read_state_dict(local_weights(config.weights)), config)
    return model.eval().requires_grad_(False)


def read_state_dict(path: str) -> dict[str, torch.Tensor]:
    """Read a state dict without running code from the file (safetensors, or ``torch.load(weights_only=True)``).

    Raises:
        InputError: The file is missing, or not a plain state dict.
    """
    if not Path(path).is_file():
        raise InputError(f"encoder.weights: there is no file {path}", "give a .safetensors or .pth file, hub or random")
    try:
        loaded = load_file(path) if path.endswith(".safetensors") else _torch_load(path)
    except SafetensorError as error:
        raise InputError(f"encoder.weights: {path} is not a safetensors file: {_first_line(error)}", _RESAVE) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise InputError(f"encoder.weights: {path} is not a state dict (name → tensor)", _RESAVE)
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


_RESAVE = "save it with safetensors.torch.save_file(model.state_dict(), …) and give that file"


def _torch_load(path: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an untrusted pickle can make torch raise anything
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise InputError(f"encoder.weights: {path} cannot be read safely: {reason}", _RESAVE) from error


def fit_state_dict(model: Any, weights: dict[str, torch.Tensor], config: EncoderConfig) -> None:
    """Load a state dict into a model, resampling position embeddings to its size; no tensor may be missing.

    Raises:
        InputError: Tensors are missing, unexpected or of another shape; the message names them.
    """
    adapt: Callable[..., dict[str, torch.Tensor]] | None = getattr(
        sys.modules[type(model).__module__], "checkpoint_filter_fn", None
    )
    try:
        adapted = adapt(weights, model) if adapt else weights
        heads = tuple(f"{name}." for name in ("head", "fc", "classifier", "fc_norm", "head_dist"))
        own = {name: t for name, t in adapted.items() if not name.startswith(heads) or name in model.state_dict()}
        missing, foreign = model.load_state_dict(own, strict=False)
    except _MODEL_ERRORS as error:
        raise _misfit(config, _first_line(error, 300)) from error
    if missing or foreign:
        parts = [f"{len(missing)} tensors missing ({_some(missing)})"] if missing else []
        parts += [f"{len(foreign)} that it does not have ({_some(foreign)})"] if foreign else []
        raise _misfit(config, "; ".join(parts))


def _misfit(config: EncoderConfig, reason: str) -> InputError:
    return InputError(
        f"encoder.weights: {config.weights} does not fit {config.model} {config.model_args}: {reason}",
        "name the timm model and model_args that these weights were saved from",
    )


def _model_error(config: EncoderConfig, error: RuntimeError) -> InputError:
    if "Unknown model" not in str(error):
        return InputError(
            f"encoder.model: {config.model} could not be made: {_first_line(error)}",
            "check encoder.model, encoder.weights and encoder.model_args",
        )
    stem = config.model.split(".")[0]
    near = timm.list_models(f"*{stem[:12]}*")[:5] or timm.list_models("vit_small*")[:5]
    return InputError(
        f"encoder.model: timm {timm.__version__} has no model {config.model!r}",
        f"use a name of timm.list_models(), for example {', '.join(near)}",
    )


def _takes_img_size(model: str) -> bool:
    """Whether the model takes an image size: transformers do, CNNs refuse the argument."""
    if not timm.is_model(model):
        return False
    module = timm.model_entrypoint(model).__module__.rsplit(".", 1)[-1]
    return any(part in module for part in ("vision_transformer", "deit", "beit", "eva", "swin", "cait", "mvitv2"))


def _chosen_layers(config: EncoderConfig, available: dict[int, int]) -> tuple[int, ...]:
    if config.layers is None:
        return tuple(available)
    wrong = sorted(set(config.layers) - set(available))
    if wrong:
        raise InputError(
            f"encoder.layers: {wrong} of {list(config.layers)}, but {config.model} has layers 0 to {max(available)}",
            "choose among those (0 is the embedding output), or use all",
        )
    return tuple(sorted(set(config.layers)))


def _facts(
    config: EncoderConfig, model: Any, data: dict[str, Any], dims: dict[int, int], name: Callable[[int], str]
) -> EncoderFacts:
    weights = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        weights.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        weights.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    interpolation = data["interpolation"] if data["interpolation"] != "random" else "bilinear"
    identity: dict[str, Any] = {
        "weights_digest": weights.hexdigest(),
        "dims": dims,
        "mean": tuple(float(v) for v in data["mean"]),
        "std": tuple(float(v) for v in data["std"]),
        "interpolation": interpolation,
        "image_size": config.image_size,
        "pooling": config.pooling,
        "model": config.model,
        "harmonise": config.harmonise,
    }
    preprocessing = "upright RGB on white; shorter side resized to image_size, central square; float32"
    code = digest(
        preprocessing=preprocessing,
        model_args=json.loads(config.model_args),
        **identity,
        **unusual(config.precision),
    )
    return EncoderFacts(digest=code, names={k: name(k) for k in dims}, precision=config.precision, **identity)


def _first_line(error: Exception, width: int = 200) -> str:
    return " ".join(str(error).split())[:width]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
