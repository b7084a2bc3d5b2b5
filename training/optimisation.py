"""The learning rate, the parameter groups of the optimizer, the average of the weights."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def learning_rate(epochs_done: float, lr: float, decay_at: list[float], decay: float, warmup: float = 0.0) -> float:
    """The learning rate by manual decay, the report's scheduler.

    epochs_done: with the fraction of the current epoch.
    lr: the rate before the first decay; each epoch in `decay_at` that is past multiplies it by `decay`.
    warmup: number of epochs in which the rate rises linearly from zero (Goyal et al. 2017).
    """
    rise = min(1.0, epochs_done / warmup) if warmup else 1.0
    return lr * rise * decay ** sum(epochs_done >= epoch for epoch in decay_at)


def parameter_groups(net: nn.Module, head_rate: float) -> list[dict]:
    """The parameter groups of SGD: the classifier and a method's heads learn at `head_rate` times the rate."""
    if head_rate == 1:
        return [{"params": list(net.parameters())}]
    backbone = net.backbone
    slow = {id(p) for p in backbone.parameters()} - {id(p) for p in backbone.classifier.parameters()}
    return [
        {"params": [p for p in net.parameters() if id(p) in slow], "lr_scale": 1.0},
        {"params": [p for p in net.parameters() if id(p) not in slow], "lr_scale": head_rate},
    ]


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
