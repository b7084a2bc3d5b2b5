"""Training a network by any method: settings, loop, checkpoints, devices, processes. It names no method."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "arguments": ["add_training_arguments", "catalogue_path"],
        "catalogue": ["training_catalogue"],
        "loop": ["Step", "Trainer"],
        "settings": ["flag", "settings_of", "settings_to_keep", "training_settings"],
        "starting_point": ["starting_settings"],
        "start": ["announce", "loaders", "starting_network", "train"],
    },
)
