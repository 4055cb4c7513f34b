"""Optimisers whose whole state is a few flat arrays.

    Adam      m <- b1 m + (1-b1) g,  v <- b2 v + (1-b2) g²,  w <- w - lr m^ / (sqrt(v^) + eps)
    Adagrad   per row: a <- a + mean(g²),  w <- w - lr g / sqrt(a + eps)   (only rows with a gradient)

Dense weights live in one flat vector, so a step is one fused operator and a checkpoint four arrays.

Source: Kingma and Ba (2015), arXiv 1412.6980; Duchi et al. (2011), JMLR 12, 2121-2159, one
accumulator per row as in Gupta et al. (2014).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from streamrec.arrays import Array, Floats32, Ints


class FlatWeights:
    """Named weights that are views of one flat float32 vector, with the moments of Adam.

    Parameters
    ----------
    initial : starting values by name; the order is the order in the vector
    device : where the vector lives

    Examples
    --------
    >>> weights = FlatWeights({"a": np.ones((2, 2), np.float32), "b": np.zeros(3, np.float32)})
    >>> weights["a"].sum().backward()
    >>> weights.step(0.1, 1.0)
    >>> weights["a"][0].tolist(), int(weights.steps)
    ([0.8999999761581421, 0.8999999761581421], 1)
    """

    def __init__(self, initial: Mapping[str, Floats32], device: str = "cpu") -> None:
        flat = np.concatenate([values.ravel() for values in initial.values()]).astype(np.float32)
        self.flat = torch.from_numpy(flat).to(device)
        self.gradient = torch.zeros_like(self.flat)
        self.first = torch.zeros_like(self.flat)
        self.second = torch.zeros_like(self.flat)
        self.copy = self.flat.clone()
        self.steps = torch.zeros((), dtype=torch.float32, device=self.flat.device)
        self.views: dict[str, Tensor] = {}
        at = 0
        for name, values in initial.items():
            view = self.flat[at : at + values.size].view(values.shape).detach().requires_grad_()
            view.grad = self.gradient[at : at + values.size].view(values.shape)
            self.views[name] = view
            at += values.size

    def __getitem__(self, name: str) -> Tensor:
        """The weight of that name; its gradient is a view of `gradient`."""
        return self.views[name]

    def step(self, rate: float, scale: float) -> None:
        """One step of Adam along `gradient * scale`."""
        self.steps += 1
        torch._fused_adam_(
            [self.flat], [self.gradient.mul_(scale)], [self.first], [self.second], [], [self.steps],
            lr=rate, beta1=0.9, beta2=0.99, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip

    def keep_copy(self) -> None:
        """Take the copy that `roll_back` returns to."""
        self.copy.copy_(self.flat)

    def roll_back(self) -> None:
        """Return to the copy and forget the moments."""
        self.flat.copy_(self.copy)
        for moments in (self.first, self.second, self.steps):
            moments.zero_()

    def scalars(self) -> dict[str, Array]:
        """Everything a checkpoint needs; the gradient is none of it."""
        return {name: tensor.cpu().numpy().copy() for name, tensor in self._state().items()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        for name, tensor in self._state().items():
            tensor.copy_(torch.from_numpy(np.asarray(arrays[name])))

    def _state(self) -> dict[str, Tensor]:
        return {
            "weights": self.flat,
            "adam_first": self.first,
            "adam_second": self.second,
            "adam_steps": self.steps,
            "weights_copy": self.copy,
        }


def adagrad_rows(table: Array, squares: Floats32, rows: Ints, gradient: Floats32, rate: float) -> None:
    """Row-wise Adagrad on the named rows of a table, each at most once; changes table and squares.

    The start of 1e-6 keeps the first steps of rare rows short: gradients are per set of a cut.

    Examples
    --------
    >>> table, squares = np.zeros((3, 2), np.float32), np.zeros(3, np.float32)
    >>> adagrad_rows(table, squares, np.array([1]), np.array([[3.0, 3.0]], np.float32), 0.1)
    >>> (table * 10).round().tolist()
    [[0.0, 0.0], [-1.0, -1.0], [0.0, 0.0]]
    """
    if len(rows) == 0:
        return
    wide = gradient.reshape(len(rows), -1)
    squares[rows] += np.einsum("ij,ij->i", wide, wide) / wide.shape[1]
    step = np.float32(rate) / np.sqrt(squares[rows] + np.float32(1e-6))
    table[rows] -= (wide * step[:, None]).reshape(gradient.shape)
