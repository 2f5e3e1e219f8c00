"""Images of stacked networks: [B, channels, H, W] in channels_last memory, the channels of all networks side by side.

Shapes: R networks, B examples, U units (channels) of one network, H × W = P positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dense(image: Tensor) -> Tensor:
    """[B, channels, H, W] in channels_last memory."""
    image = image.contiguous(memory_format=torch.channels_last)
    if image.shape[1] > 1:
        return image
    # an image of one channel has both layouts; strides that only channels_last has make torch keep to it
    return image.as_strided(image.shape, (image.shape[2] * image.shape[3], 1, image.shape[3], 1))


def in_order_of(image: Tensor, like: Tensor) -> Tensor:
    """The same values in the memory order of ``like``."""
    return image if image.stride() == like.stride() else torch.empty_like(like).copy_(image)


def by_network(image: Tensor, networks: int) -> Tensor:
    """[B, R·U, H, W] as [R, U, B, P], contiguous: sums over examples and positions then have one order."""
    return image.view(len(image), networks, -1, *image.shape[2:]).permute(1, 2, 0, 3, 4).flatten(3).contiguous()


def as_image(t_RUBP: Tensor, height: int) -> Tensor:
    """[R, U, B, P] as [B, R·U, H, W]."""
    networks, units, batch, positions = t_RUBP.shape
    shape = batch, networks * units, height, positions // height
    image = torch.empty(shape, dtype=t_RUBP.dtype, device=t_RUBP.device, memory_format=torch.channels_last)
    image.view(batch, networks, units, *shape[2:]).copy_(t_RUBP.unflatten(3, shape[2:]).permute(2, 0, 1, 3, 4))
    return image


def units_of_one(image: Tensor) -> Tensor:
    """[B, U, H, W] of a single network as [1, U, B·P], where it lies."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1]).T.unsqueeze(0)
