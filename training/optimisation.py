"""The learning rate at each moment, the parameters that learn at another rate, the average of the weights."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def learning_rate(epochs_done: float, lr: float, decay_at: list[float], decay: float, warmup: float = 0.0) -> float:
    """Manual decay, the report's scheduler: `lr` times `decay` for every epoch of `decay_at` that is past.

    `warmup`: epochs in which the rate first rises linearly from zero (Goyal et al. 2017).
    """
    rise = min(1.0, epochs_done / warmup) if warmup else 1.0
    return lr * rise * decay ** sum(epochs_done >= epoch for epoch in decay_at)


def parameter_groups(net: nn.Module, head_rate: float) -> list[dict]:
    """The backbone, and what learns at `head_rate` times its rate: the classifier and a method's heads."""
    if head_rate == 1:
        return [{"params": list(net.parameters())}]
    backbone = net.backbone
    slow = {id(p) for p in backbone.parameters()} - {id(p) for p in backbone.classifier.parameters()}
    return [
        {"params": [p for p in net.parameters() if id(p) in slow], "lr_scale": 1.0},
        {"params": [p for p in net.parameters() if id(p) not in slow], "lr_scale": head_rate},
    ]


class Average:
    """Exponential moving average of a network's parameters and buffers; its `module` is a network like any other."""

    def __init__(self, net: nn.Module, decay: float, state: dict | None = None):
        self.model = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        if state:
            self.model.module.load_state_dict(state)
            self.model.n_averaged.fill_(1)  # else the first update would start from the network again

    @property
    def module(self) -> nn.Module:
        return self.model.module

    def update(self, net: nn.Module) -> None:
        self.model.update_parameters(net)
