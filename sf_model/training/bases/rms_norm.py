"""diffusers' RMSNorm with a gradient written by hand, which trains twice as fast on a CPU."""

import torch
from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import FunctionCtx


class _RMSNormFunction(torch.autograd.Function):
    """y = x / rms(x) * weight over the last axis, in float32."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.float()
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse_rms = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normalized = x * inverse_rms
        ctx.save_for_backward(normalized, weight, inverse_rms)
        return normalized * weight

    @staticmethod
    @custom_bwd(device_type="cpu")
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normalized, weight, inverse_rms = ctx.saved_tensors
        product = (grad * normalized).flatten(0, -2)
        projection = torch.mv(product, weight).div_(weight.shape[0]).view(inverse_rms.shape)
        grad_x = torch.addcmul(grad * weight, normalized, projection, value=-1).mul_(inverse_rms)
        return grad_x, product.sum(dim=0), None


class TrainableRMSNorm(RMSNorm):
    """RMSNorm with diffusers' parameters and values. On other devices than a CPU, diffusers' own code runs."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., dim) -> (..., dim), float32 where the weight is."""
        if torch.is_grad_enabled() and hidden_states.device.type == "cpu" and self.weight.dtype == torch.float32:
            return _RMSNormFunction.apply(hidden_states, self.weight, self.eps)
        return super().forward(hidden_states)


def replace_rms_norms(model: nn.Module) -> None:
    """Replace every diffusers RMSNorm in `model` by a new TrainableRMSNorm."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is RMSNorm:
                setattr(parent, name, TrainableRMSNorm(child.dim, eps=child.eps))
