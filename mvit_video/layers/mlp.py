"""The feed-forward half of a block, and stochastic depth."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Mlp(nn.Module):
    """Linear, activation, linear, each followed by dropout: (..., dim) -> (..., dim_out)."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        dim_out: int | None = None,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim_out or dim)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        dropped = self.training and self.dropout.p > 0.0
        # A compiler decides by itself what to keep.
        if x.requires_grad and not dropped and not torch.compiler.is_compiling():
            return _ActivatedLinear.apply(x, self.fc2.weight, self.fc2.bias, self.activation)
        return self.dropout(self.fc2(self.dropout(self.activation(x))))


class _ActivatedLinear(torch.autograd.Function):
    """linear(activation(x)) that keeps x alone for the backward pass, and computes the activation again there.

    The widest tensor of a block would otherwise be kept twice. Leaving one out saves a sixth of what a training step
    of MViTv2-S keeps, for a hundredth of its time.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor, activation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.activation = activation
        return F.linear(activation(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            activated = ctx.activation(x)
        rows = grad.flatten(0, -2)
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if wants_x:  # under autocast the weight is wider than what flows
            (grad_x,) = torch.autograd.grad(activated, x, grad @ weight.to(grad.dtype))
        if wants_weight:
            grad_weight = rows.t() @ activated.detach().flatten(0, -2)
        if wants_bias:
            grad_bias = rows.sum(0)
        return grad_x, grad_weight, grad_bias, None


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): in training a sample's branch is dropped with
    probability `rate`.

    What is kept is scaled by 1 / (1 - rate). The choice comes from torch's global generator and is
    drawn in float32 whatever the dtype of x: in half precision 1 - rate + uniform rounds up to 1
    too often.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:  # in eval, compiled blocks of any rate are one
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = torch.rand(shape, dtype=torch.float32, device=x.device) < keep
        return x * (kept / keep).to(x.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"
