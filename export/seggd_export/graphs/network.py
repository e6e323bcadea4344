"""The network as it is exported: diffusers' UNet2DModel, rewritten only where its trace would be clumsy.

The weights, their names and the blocks are diffusers' own. Four things differ, none of them in value:

- group normalisation is one instance normalisation over (batch, groups, rest), with shapes known when it is traced: the
  form that ONNX Runtime, OpenVINO and TensorRT have a kernel for (GroupNormalization of opset 21 is refused by TensorRT
  before 10.9). Written as reductions or as LayerNormalization it is not faster: 128x128, one thread, ONNX Runtime and
  OpenVINO in fp32 and bf16, all within the noise of 5 %;
- attention is MatMul, Softmax, MatMul over tokens, its linear layers with their weights already transposed;
- the sines and cosines of every timestep are a table of diffusers' own values, of which a row is taken. An engine that
  lowers a float32 graph by itself computes them from a rounded timestep: OpenVINO's bfloat16 makes 951 952. Measured at
  t = 950 on a small network: an error of 2.4e-2 with sines in the graph, 4e-3 with the table;
- the activation of the time embedding is computed once, not once a residual block.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import UNet2DModel
from diffusers.models.activations import get_activation
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

_DIGIT = 256
"""Base in which a timestep is taken apart: bfloat16 holds every whole number up to it."""


class GroupNorm(nn.Module):
    """Group normalisation of (B, C, H, W) as an instance normalisation of (B, groups, C / groups * H * W)."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight = nn.Parameter(norm.weight.detach()[:, None, None], requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach()[:, None, None], requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, (B, C, H, W)."""
        shape = x.shape[1:]
        grouped = x.reshape(-1, self.groups, shape.numel() // self.groups)
        normalised = nn.functional.instance_norm(grouped, eps=self.eps).reshape(-1, *shape)
        return normalised * self.weight + self.bias


class TokenLinear(nn.Module):
    """A linear layer over (B, N, C) whose weight is stored as (in, out): one MatMul and one Add."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().T.contiguous(), requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x, (B, N, in), to (B, N, out)."""
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


class TokenAttention:
    """Self-attention over the pixels of (B, C, H, W), as diffusers' attention processors are called."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend. What comes after `hidden_states` is part of the call, and is not used."""
        channels, height, width = hidden_states.shape[1:]
        count = height * width

        def heads(tokens: Tensor) -> Tensor:
            return tokens.reshape(-1, count, attn.heads, tokens.shape[-1] // attn.heads).transpose(1, 2)

        normalised = hidden_states if attn.group_norm is None else attn.group_norm(hidden_states)
        tokens = normalised.reshape(-1, channels, count).transpose(1, 2)
        q, k, v = heads(attn.to_q(tokens)), heads(attn.to_k(tokens)), heads(attn.to_v(tokens))
        # Scaling q before the product keeps the scores of a float16 graph in range.
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(-1, count, attn.heads * v.shape[-1])
        image = attn.to_out[0](mixed).transpose(1, 2).reshape(-1, channels, height, width)
        out: Tensor = (image + hidden_states) / attn.rescale_output_factor
        return out


class TimeTable(nn.Module):
    """The sinusoidal embedding of every timestep, (train_steps, C) float32."""

    weight: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", table)

    def forward(self, timestep: Tensor) -> Tensor:
        """Return the rows of whole timesteps, (B,) float32."""
        # Both digits are exact in bfloat16, and both are computed from the input itself, which no engine rounds.
        high = torch.floor(timestep / _DIGIT)
        low = timestep - high * _DIGIT
        return nn.functional.embedding(high.int() * _DIGIT + low.int(), self.weight)


class Network(nn.Module):
    """`out = network(sample, timestep)`: the UNet on a concatenated image and mask.

    sample: (B, image + mask channels, H, W) float32; timestep: (B,) float32, whole numbers in [0, train_steps);
    out: (B, image channels, H, W) float32.
    """

    def __init__(self, unet: UNet2DModel, train_steps: int) -> None:
        super().__init__()
        unet = copy.deepcopy(unet).eval().requires_grad_(False)
        _rewrite(unet)
        config = unet.config
        self.center_input = bool(config.center_input_sample)
        self.time_table = TimeTable(unet.time_proj(torch.arange(train_steps)))
        self.time_embedding = unet.time_embedding
        self.time_act = get_activation(config.act_fn)
        self.conv_in = unet.conv_in
        self.down_blocks, self.mid_block, self.up_blocks = unet.down_blocks, unet.mid_block, unet.up_blocks
        self.conv_norm_out, self.conv_act, self.conv_out = unet.conv_norm_out, unet.conv_act, unet.conv_out
        self.eval()

    def float32_modules(self) -> frozenset[str]:
        """Return the names of the modules that a half-precision graph keeps in float32.

        These are the time embedding and the statistics of the normalisations. "" is what this class does itself, which
        is to centre the input where the network asks for that.
        """
        norms = {name for name, module in self.named_modules() if isinstance(module, GroupNorm)}
        time = {name for name, _ in self.named_modules() if name.startswith("time_")}
        return frozenset(norms | time | {""})

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Evaluate the network."""
        time = self.time_act(self.time_embedding(self.time_table(timestep)))
        x = self.conv_in(2 * sample - 1 if self.center_input else sample)
        skips = [x]
        for block in self.down_blocks:
            x, residuals = block(x, time)
            skips.extend(residuals)
        if self.mid_block is not None:
            x = self.mid_block(x, time)
        for block in self.up_blocks:
            count = len(block.resnets)
            x = block(x, tuple(skips[-count:]), time)
            del skips[-count:]
        out: Tensor = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        return out


def _rewrite(module: nn.Module) -> None:
    """Replace, in place, what the module docstring lists."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, GroupNorm(child))
            continue
        _rewrite(child)
        if isinstance(child, Attention):
            for linear in ("to_q", "to_k", "to_v"):
                setattr(child, linear, TokenLinear(getattr(child, linear)))
            child.to_out[0] = TokenLinear(child.to_out[0])
            child.set_processor(TokenAttention())
        elif isinstance(child, ResnetBlock2D):
            child.skip_time_act = True
