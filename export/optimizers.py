"""Which optimiser trains what, and what a GPU's recorded steps want of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.dyadic import DyadicConv
from export.muon import Muon
from export.networks import Conv, Modulation
from export.recipe import Training


def make_optimizers(model: nn.Module, training: Training) -> list[torch.optim.Optimizer]:
    """Give the inner dense convolutions to Muon, if so wanted, and everything else to AdamW.

    Stems and heads are not inner, those of the context passes included.
    """
    inner: list[nn.Parameter] = []
    rates: dict[str, list[nn.Parameter]] = {"adam": [], "linear": [], "table": []}
    for name, module in model.named_modules():
        dense = isinstance(module, Conv) or (isinstance(module, DyadicConv) and module.groups == 1)
        edge = name.rpartition(".")[2] in ("stem", "head")
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if dense and not edge and parameter_name == "weight":
                inner.append(parameter)
            elif module is model or isinstance(module, Modulation):
                rates["table"].append(parameter)
            else:
                rates["linear" if parameter_name == "linear" else "adam"].append(parameter)
    groups = [
        {"params": rates["adam"], "lr": training.adam_rate},
        {"params": rates["linear"], "lr": training.linear_rate},
        {"params": rates["table"], "lr": training.table_rate},
    ]
    decay = training.weight_decay
    precision = torch.bfloat16 if training.autocast == "bfloat16" else torch.float32
    optimizers: list[torch.optim.Optimizer] = []
    if training.inner_optimizer == "muon":
        muon = Muon(inner, lr=training.muon_rate, weight_decay=decay, precision=precision)
        optimizers.append(muon)
    else:
        groups.append({"params": inner, "lr": training.muon_rate})
    optimizers.append(torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def move_optimizers(optimizers: list[torch.optim.Optimizer], device: torch.device) -> None:
    """Bring the state of optimisers to where weights are; on a GPU their steps can be recorded."""
    on_gpu = device.type == "cuda"
    for optimizer in optimizers:
        for held in optimizer.state.values():
            for key, value in held.items():
                if isinstance(value, Tensor) and (value.dim() or on_gpu):
                    held[key] = value.to(device)
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros((), device=device) if on_gpu else 0.0
            if "capturable" in group:
                group["capturable"] = on_gpu


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set all rates to a share of what the recipe gives, in place where a recording reads them."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate = group["base_lr"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
