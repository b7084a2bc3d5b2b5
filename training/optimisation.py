"""The learning rate, the parameter groups of the optimizer, the average of the weights."""

import math

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def learning_rate(
    done: float,
    epochs: int,
    lr: float,
    decay_at: list[float],
    decay: float,
    warmup: float = 0.0,
    schedule: str = "manual",
) -> float:
    """The learning rate after `done` of `epochs`, with the fraction of the current epoch.

    schedule: manual, the report's: `lr` times `decay` for each epoch in `decay_at` that is past; cosine: half a cosine
        wave from `lr` at the end of the warmup to zero at the end (Loshchilov and Hutter, ICLR 2017, without restarts).
    warmup: number of epochs in which the rate rises linearly from zero (Goyal et al. 2017).
    """
    rise = min(1.0, done / warmup) if warmup else 1.0
    if schedule == "cosine":
        over = (done - warmup) / (epochs - warmup) if done > warmup else 0.0
        return lr * rise * (1 + math.cos(math.pi * over)) / 2
    return lr * rise * decay ** sum(done >= epoch for epoch in decay_at)


def parameter_groups(net: nn.Module, head_rate: float = 1.0, layer_decay: float = 1.0) -> list[dict]:
    """The parameter groups of SGD, each with `lr_scale`, its rate in units of the learning rate.

    head_rate: of the classifier and a method's heads.
    layer_decay: D; stage n of the backbone's S learns at D^(S − n), n from 0 at the image (Clark et al., ICLR 2020).
    """
    if head_rate == layer_decay == 1:
        return [{"params": list(net.parameters())}]
    stages = net.backbone.stages()
    scales = {id(p): layer_decay ** (len(stages) - n) for n, stage in enumerate(stages) for p in stage}
    groups: dict[float, list] = {}
    for parameter in net.parameters():
        if id(parameter) in scales:
            groups.setdefault(scales[id(parameter)], []).append(parameter)
    heads = [parameter for parameter in net.parameters() if id(parameter) not in scales]
    return [{"params": group, "lr_scale": scale} for scale, group in (*groups.items(), (head_rate, heads))]


class Average:
    """Exponential moving average of a network's parameters and buffers; `module` is the averaged network."""

    def __init__(self, net: nn.Module, decay: float, state: dict | None = None):
        self.model = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        if state:
            self.model.module.load_state_dict(state)
            self.model.n_averaged.fill_(1)  # at 0 the first update would copy the network

    @property
    def module(self) -> nn.Module:
        return self.model.module

    def update(self, net: nn.Module) -> None:
        self.model.update_parameters(net)
