"""Lets torchvision be imported beside a torch that was built without CUDA.

The wheel of torchvision on PyPI is linked against CUDA torch. Beside a CPU-only torch its compiled part does not load.
The operators that its Python code describes to torch at import are then missing: "operator torchvision::nms does not
exist". Declaring the schemas of those two operators beforehand makes all of its Python code (models, transforms) work.
This project uses no compiled operator.

Every module that imports torchvision imports this one first.
"""

import importlib.util
import sys
import warnings

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _declare_missing_operators() -> "torch.library.Library | None":
    """Declare nms and qnms, unless torchvision's compiled part declares them itself."""
    if "torchvision" in sys.modules or torch.version.cuda or importlib.util.find_spec("torchvision") is None:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS.values():
        library.define(schema)
    return library


_library = _declare_missing_operators()  # the declarations live as long as this object

with warnings.catch_warnings():
    # "Failed to load image Python extension": expected here, and Pillow reads the photographs.
    warnings.filterwarnings("ignore", message="Failed to load image Python extension")
    import torchvision  # noqa: F401
