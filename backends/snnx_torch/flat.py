"""Tensors that are treated alike, end to end: one launch instead of one for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

# Elements of a joined tensor: small tensors cost their launches, large ones their copies.
MOST = 1 << 22


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return the elements of all tensors in one row; a single one is only looked at."""
    rows = [_channels_last(tensor).reshape(-1) for tensor in tensors]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def parted(row: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return what `joined` made one, in the shapes of `like`: views of the row."""
    pieces = row.split([tensor.numel() for tensor in like])
    found = []
    for piece, tensor in zip(pieces, like, strict=True):
        shaped = piece.reshape(_channels_last(tensor).shape)
        found.append(shaped.permute(0, 3, 1, 2) if tensor.dim() == 4 else shaped)
    return found


def _channels_last(tensor: Tensor) -> Tensor:
    """Return a tensor in the order in which a convolution's weights lie in memory."""
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def bunches(sizes: Mapping[str, int], most: int = MOST) -> list[tuple[str, ...]]:
    """Return the names in their order, in bunches of at most `most` elements, or of one name."""
    found: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if size > room:
            found.append([])
            room = most
        found[-1].append(name)
        room -= size
    return [tuple(names) for names in found]


def chosen(
    condition: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the new tensors where a flag is true, else the old ones."""
    found: dict[str, Tensor] = {}
    for names in bunches({name: tensor.numel() for name, tensor in new.items()}):
        before, after = ([each[name] for name in names] for each in (old, new))
        row = torch.where(condition, joined(after), joined(before))
        found |= zip(names, parted(row, before), strict=True)
    return found


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the root of the sum of all squares."""
    return torch.stack(torch._foreach_norm(list(tensors))).square().sum().sqrt()  # type: ignore
