"""What a trained network is used for: probabilities, embeddings, explanations, files for deployment."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "classifier": ["Classifier", "Rows"],
        "method_sheets": ["destruction_sheet", "object_sheet"],
        "sheets": ["checkpoint_to_show"],
        "show": ["is_trained_by", "show_extents", "show_regions"],
        "teacher": ["open_teacher"],
    },
)
