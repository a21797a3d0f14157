"""The networks of the lesson and of the papers in PyTorch, and their weights in seg_jax's layout.

The lesson is lesson 12 (segmentation) of https://github.com/microsoft/AI-For-Beginners.
`train_step.py` times these networks, and `tests/fixtures/make_torch_fixtures.py` records what they
compute.
"""

import numpy as np
import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """The encoder of all four networks: blocks named as in seg_jax."""

    def __init__(self, widths, convs, *, norm: bool, norm_after_relu: bool):
        super().__init__()
        self.options = {"norm": norm, "norm_after_relu": norm_after_relu}
        for i, (before, after, count) in enumerate(
            zip((3, *widths[:-1]), widths, convs, strict=True)
        ):
            self.add_module(f"encoder_{i}", block(before, (after,) * count, **self.options))


class TorchUNet(Encoder):
    """`seg_jax.models.UNet` with one or two convolutions a level."""

    def __init__(self, features, *, convs, decoder, lesson: bool):
        levels = len(features) - 1
        super().__init__(features[:-1], (convs,) * levels, norm=lesson, norm_after_relu=lesson)
        self.levels, self.lesson = levels, lesson
        if lesson:
            self.bottom = nn.Conv2d(features[-2], features[-1], 3, padding=1)
        else:
            self.bottom = block(features[-2], (features[-1],) * convs, **self.options)
        before = features[-1]
        for i, width in zip(reversed(range(levels)), decoder, strict=True):
            if not lesson:
                self.add_module(f"up_{i}", nn.ConvTranspose2d(before, features[i], 2, stride=2))
                before = features[i]
            before += features[i]
            if width:
                self.add_module(f"decoder_{i}", block(before, (width,) * convs, **self.options))
                before = width
        self.head = nn.Conv2d(before, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to logits (B, 1, H, W)."""
        skips = []
        for i in range(self.levels):
            skips.append(self.get_submodule(f"encoder_{i}")(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        if not self.lesson:
            skips[-1] = nn.functional.dropout(skips[-1], 0.5, self.training)
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        if not self.lesson:
            x = nn.functional.dropout(x, 0.5, self.training)
        for i in reversed(range(self.levels)):
            up = self.get_submodule(f"up_{i}") if not self.lesson else twice
            x = torch.cat([skips[i], up(x)], 1)
            if hasattr(self, f"decoder_{i}"):
                x = self.get_submodule(f"decoder_{i}")(x)
        return self.head(x)


class TorchSegNet(Encoder):
    """`seg_jax.models.SegNet` as the lesson or the paper has it."""

    def __init__(self, features, *, convs, decoder, lesson: bool):
        super().__init__(features, convs, norm=True, norm_after_relu=lesson)
        self.levels, self.lesson = len(features), lesson
        before = features[-1]
        if lesson:
            self.bottom = nn.Conv2d(before, 2 * before, 3, padding=1)
            before *= 2
        for i, widths in zip(reversed(range(self.levels)), decoder, strict=True):
            if widths:
                self.add_module(f"decoder_{i}", block(before, widths, **self.options))
                before = widths[-1]
        self.head = nn.Conv2d(before, 1, 1 if lesson else 3, padding=0 if lesson else 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to logits (B, 1, H, W)."""
        places = []
        for i in range(self.levels):
            x, indices = nn.functional.max_pool2d(
                self.get_submodule(f"encoder_{i}")(x), 2, return_indices=True
            )
            places.append(indices)
        if self.lesson:
            x = self.bottom(x)
        for i in reversed(range(self.levels)):
            x = twice(x) if self.lesson else nn.functional.max_unpool2d(x, places[i], 2)
            if hasattr(self, f"decoder_{i}"):
                x = self.get_submodule(f"decoder_{i}")(x)
        return self.head(x)


def lesson_unet(features=(16, 32, 64, 128, 256)) -> TorchUNet:
    """The lesson's U-Net."""
    return TorchUNet(features, convs=1, decoder=(*features[-2:0:-1], 0), lesson=True)


def original_unet(features=(64, 128, 256, 512, 1024)) -> TorchUNet:
    """The paper's U-Net, with padded convolutions."""
    return TorchUNet(features, convs=2, decoder=features[-2::-1], lesson=False)


def lesson_segnet(features=(16, 32, 64, 128)) -> TorchSegNet:
    """The lesson's SegNet."""
    decoder = [(width,) for width in features[:0:-1]]
    return TorchSegNet(features, convs=(1,) * len(features), decoder=[*decoder, ()], lesson=True)


def original_segnet(features=(64, 128, 256, 512, 512), convs=(2, 2, 3, 3, 3)) -> TorchSegNet:
    """The paper's SegNet."""
    above = (*features[-2::-1], None)
    decoder = [
        (width,) * (count - 1) + ((end,) if end else ())
        for width, count, end in zip(features[::-1], convs[::-1], above, strict=True)
    ]
    return TorchSegNet(features, convs=convs, decoder=decoder, lesson=False)


def block(before: int, widths: tuple[int, ...], *, norm: bool, norm_after_relu: bool):
    """3×3 convolutions with ReLU and BatchNorm in seg_jax's order."""
    layers = []
    for width in widths:
        bias = not norm or norm_after_relu
        layers.append(nn.Conv2d(before, width, 3, padding=1, bias=bias))
        after = [nn.ReLU()]
        if norm:
            after.insert(1 if norm_after_relu else 0, nn.BatchNorm2d(width))
        layers += after
        before = width
    return nn.Sequential(*layers)


def twice(x: Tensor) -> Tensor:
    """`nn.UpsamplingBilinear2d(scale_factor=2)`."""
    return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def flax_variables(net: nn.Module) -> dict[str, dict]:
    """The weights and running statistics of a network in the layout of `seg_jax.models`."""
    params, statistics = {}, {}
    for name, child in net.named_children():
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
            params[name] = _conv(child)
            continue
        params[name], statistics[name] = {}, {}
        convs = [m for m in child if isinstance(m, nn.Conv2d)]
        norms = [m for m in child if isinstance(m, nn.BatchNorm2d)]
        for k, conv in enumerate(convs):
            params[name][f"Conv_{k}"] = _conv(conv)
        for k, norm in enumerate(norms):
            params[name][f"BatchNorm_{k}"] = {
                "scale": _array(norm.weight),
                "bias": _array(norm.bias),
            }
            statistics[name][f"BatchNorm_{k}"] = {
                "mean": _array(norm.running_mean),
                "var": _array(norm.running_var),
            }
    statistics = {name: values for name, values in statistics.items() if values}
    return {"params": params} | ({"batch_stats": statistics} if statistics else {})


def _conv(conv: nn.Conv2d | nn.ConvTranspose2d) -> dict[str, np.ndarray]:
    # (out, in, h, w), transposed (in, out, h, w), to (h, w, in, out)
    order = (2, 3, 0, 1) if isinstance(conv, nn.ConvTranspose2d) else (2, 3, 1, 0)
    kernel = {"kernel": _array(conv.weight.permute(order))}
    return kernel if conv.bias is None else kernel | {"bias": _array(conv.bias)}


def _array(x: Tensor) -> np.ndarray:
    return x.detach().numpy().copy()
