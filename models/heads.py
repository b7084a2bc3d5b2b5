"""What the methods with heads of their own have in common."""

from torch import nn


class Heads(nn.Module):
    """A module around a backbone, its `net`, whose classifier it keeps; `options`: what it was given besides."""

    heads_predict: bool  # whether the heads speak at test time; else the best network is saved without them

    def __init__(self, net: nn.Module, **options):
        super().__init__()
        self.net, self.options = net, options

    @property
    def backbone(self) -> nn.Module:
        return self.net

    @property
    def classifier(self) -> nn.Linear:
        return self.net.classifier

    @property
    def bf16_pays_on_cpu(self) -> bool:
        return self.net.bf16_pays_on_cpu
