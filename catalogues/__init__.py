"""Catalogues of product photographs: their formats, and which photographs they have with which labels.

Names are imported at first use. Nothing here needs torch or OpenCV, or decodes a photograph.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["formats", "index", "shards"],
    submod_attrs={
        "catalogue": ["SPLITS", "Catalogue", "Split", "Strings"],
        "formats": ["open_catalogue"],
        "label_files": ["LABEL_COLUMNS", "excluded_places", "with_extra_labels"],
    },
)
