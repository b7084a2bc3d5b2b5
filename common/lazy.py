"""Modules that are imported at first use, so that a help text does not wait for them."""

import importlib


class LazyModule:
    """Stands for the module `name` and imports it when an attribute is first read.

    It does not stand in `sys.modules`, unlike `lazy_loader.load`: there, a later `import torch.utils.data` that is the
    first use of torch imports torch.utils twice and leaves it damaged.
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self._name), attribute)
