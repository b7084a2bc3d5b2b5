"""What a trained network is used for: probabilities, embeddings, explanations, files for deployment.

Names are imported at first use: `import inference` alone does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "classifier": ["Classifier", "Rows"],
        "export": ["TOGETHER", "TOLERANCE", "Deployed", "compare", "deployed_network", "describe", "load_for_export"],
        "extents": ["object_sheet"],
        "photographs": ["name_products", "require_one_process"],
        "prediction_file": ["predict_split"],
        "regions": ["destruction_sheet"],
        "sheets": ["checkpoint_to_show"],
        "show": ["is_trained_by", "require_learned_options", "show_extents", "show_regions"],
        "teacher": ["open_teacher"],
    },
)
