"""The guard against steps that are not finite: such a step is left out, and several in a row end the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ._parameters import copy_parameters, restore_parameters
from ._result import Ascent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    NonFinite = tuple[NDArray[np.intp], str]

#: Steps in a row that may be skipped because they are not finite, and taken steps between copies of the parameters.
MOST_SKIPPED, COPY_EVERY = 5, 50


class NotFiniteError(FloatingPointError):
    """Training stopped because the bound or its gradient was not finite, several steps in a row.

    Attributes
    ----------
    cells
        Positions of cells whose bound was not finite.
    parameter
        Name of the first parameter whose gradient was not finite, or an empty text.
    ascent
        What training went through until then.
    """

    def __init__(self, cells: NDArray[np.intp], parameter: str, ascent: Ascent) -> None:
        self.cells, self.parameter, self.ascent = cells, parameter, ascent
        where = f"the gradient of {parameter}" if parameter else "the bound or its gradient"
        look_at = "genes with extreme counts"
        if len(cells):
            where, look_at = f"the bound of cells {cells[:5].tolist()}", "these cells"
        super().__init__(
            f"{where} was not finite in {MOST_SKIPPED} steps in a row. The last good parameters are kept. "
            f"Try a lower learning_rate, and look at {look_at}."
        )


class FiniteGuard:
    """Decides whether each step is taken, counts steps, and keeps a copy of the last good parameters.

    If `torch.distributed` is initialised, a step is taken by all processes or by none, so that they do not part; each
    of them has to ask as often as the others.

    Parameters
    ----------
    module
        What is trained; its parameters and buffers are copied now, and every 50 steps that are taken.

    Attributes
    ----------
    ascent
        Steps, and those of them that were skipped.

    Examples
    --------
    >>> import numpy as np
    >>> guard = FiniteGuard(torch.nn.Linear(1, 1))
    >>> [guard.accepts(finite, lambda: (np.arange(3), "")) for finite in (True, False, True)]
    [True, False, True]
    >>> guard.ascent.n_steps, guard.ascent.n_skipped
    (3, 1)
    """

    def __init__(self, module: nn.Module) -> None:
        self._module, self.ascent = module, Ascent()
        self._skipped_in_a_row = 0
        self.snapshot()

    def snapshot(self) -> None:
        """Copy the parameters as they are, to go back to."""
        self._good, self._since_copy = copy_parameters(self._module), 0

    def accepts(self, finite: bool, nonfinite: Callable[[], NonFinite]) -> bool:
        """Whether to take a step whose bound and gradient are finite or not, before it is taken.

        Parameters
        ----------
        finite
            Whether they are, in this process.
        nonfinite
            Cells and the parameter to name in an error; see `find_nonfinite`.

        Raises
        ------
        NotFiniteError
            Several steps in a row were not finite. The module has the last good parameters.
        """
        self.ascent.n_steps += 1
        if finite_everywhere(finite, self._module):
            if self._since_copy == COPY_EVERY:
                self.snapshot()
            self._since_copy += 1
            self._skipped_in_a_row = 0
            return True
        self.ascent.n_skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MOST_SKIPPED:
            self.ascent.failed = True
            restore_parameters(self._module, self._good)
            raise NotFiniteError(*nonfinite(), self.ascent)
        return False

    def state_dict(self) -> list[int]:
        """Numbers of steps, of skipped ones, and of those at the end: what a checkpoint keeps."""
        return [self.ascent.n_steps, self.ascent.n_skipped, self._skipped_in_a_row]

    def load_state_dict(self, state_dict: list[int]) -> None:
        """Go on from a checkpoint."""
        self.ascent.n_steps, self.ascent.n_skipped, self._skipped_in_a_row = state_dict


def finite_everywhere(finite: bool, module: nn.Module) -> bool:
    """Whether a step is finite in all processes of `torch.distributed`, or in this one if there are no others."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return finite
    flag = torch.tensor(int(finite), device=next(module.parameters()).device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
    return bool(flag)


def find_nonfinite(cells: NDArray[np.intp], bound: torch.Tensor, gradients: Mapping[str, torch.Tensor]) -> NonFinite:
    """Cells whose bound is not finite, and, if there are none, the first parameter whose gradient is not.

    Examples
    --------
    >>> import numpy as np
    >>> cells, bound = np.array([3, 5]), torch.tensor([0.0, torch.nan])
    >>> find_nonfinite(cells, bound, {"scale": torch.ones(2)})
    (array([5]), '')
    >>> find_nonfinite(cells, torch.zeros(2), {"scale": torch.tensor([1.0, torch.inf])})
    (array([], dtype=int64), 'scale')
    """
    bad_cells = cells[~torch.isfinite(bound).cpu().numpy()]
    if len(bad_cells):
        return bad_cells, ""
    norms = ((name, torch.linalg.vector_norm(gradient)) for name, gradient in gradients.items())
    return bad_cells, next((name for name, norm in norms if not torch.isfinite(norm)), "")
