"""The linear layer of a model of labels as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class LinearLayer(torch.nn.Module):
    """Arrays by name, of whatever shape: weights, their covariance, scales of features, and what is known of held-out cells."""

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray | float]) -> Self:
        """A layer with these arrays."""
        layer = cls()
        for name, array in arrays.items():
            layer.register_buffer(name, torch.from_numpy(np.array(array)))
        return layer

    def with_arrays(self, arrays: Mapping[str, NDArray | float]) -> Self:
        """The same with others, in place of those of their names."""
        return type(self).of({**{name: self.array(name) for name in self.state_dict()}, **arrays})

    def array(self, name: str) -> NDArray:
        """One of them."""
        return self.get_buffer(name).cpu().numpy()

    def __contains__(self, name: str) -> bool:
        return name in dict(self.named_buffers())
