"""The files that export.py writes, ONNX, TorchScript and safetensors: how each is made, and how it is opened again.

All hold the description, see `inference.export.describe`. In ONNX and safetensors it is metadata: a string for each
key, a text as it is and everything else as JSON. In TorchScript it is the extra file description.json.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from common.errors import InputError
from common.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np

    from inference.export import Deployed, Run

torch = LazyModule("torch")  # export.py lists the formats in its help text, which needs no torch

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13 (2022): what torch's exporter writes without a conversion
LARGEST_ONNX = 2**31 - 2**24  # bytes of weights: the 2 GiB of protobuf without the rest of the file
INTERFACE = ("input", "output")
INPUT, OUTPUT, AXIS, EXTRA = "photographs", "probabilities", "N", "description.json"


def onnx_file(deployed: Deployed, description: dict) -> bytes:
    """An ONNX file of opset 18: `photographs` uint8 (N, S, S, 3) -> `probabilities` float32 (N, K), any N."""
    import onnx

    size = sum(tensor.nbytes for tensor in deployed.state_dict().values())
    if size > LARGEST_ONNX:
        raise InputError(
            f"--format onnx: {size / 2**30:.1f} GiB of weights, one ONNX file holds 2 GiB at most; give "
            "--format torchscript"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program = torch.onnx.export(
            deployed,
            (_example(deployed),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim(AXIS)},),
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]  # lines of source with paths of this machine
    model.ir_version = IR_VERSION
    onnx.helper.set_model_props(model, _strings(description))
    return model.SerializeToString()


def open_onnx(content: bytes) -> Run:
    """What runs the content of an ONNX file by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda photographs: session.run([OUTPUT], {INPUT: photographs})[0]


def torchscript_file(deployed: Deployed, description: dict) -> bytes:
    """A TorchScript archive: forward(photographs uint8 (N, S, S, 3)) -> probabilities float32 (N, K), any N."""
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # sides of images become constants, as intended
        traced = torch.jit.trace(deployed, _example(deployed), check_trace=False)
        torch.jit.save(traced, file, _extra_files={EXTRA: json.dumps(description)})
    return file.getvalue()


def open_torchscript(content: bytes) -> Run:
    """What runs the content of a TorchScript archive by torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is called deprecated since torch 2.10
        module = torch.jit.load(io.BytesIO(content), map_location="cpu")

    @torch.inference_mode()
    def run(photographs: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(photographs)).numpy()

    return run


def safetensors_file(deployed: Deployed, description: dict) -> bytes:
    """The weights alone: the backbone's by its own keys, as --weights reads them, those of heads after "heads."."""
    from safetensors.torch import save

    from models.checkpoint import split_weights
    from models.weights import HEADS_PREFIX

    backbone, heads = split_weights(deployed.net)
    weights = backbone | {HEADS_PREFIX + key: tensor for key, tensor in (heads or {}).items()}
    weights = {key: tensor.contiguous() for key, tensor in weights.items()}
    return save(weights, _strings(description) | {"format": "pt"})


def open_safetensors(content: bytes) -> Run:
    """The network built from the file's metadata and weights, with the preprocessing of its metadata."""
    from safetensors.torch import load

    from inference.export import Deployed
    from models import HEADS, create_model
    from models.weights import HEADS_PREFIX

    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    weights, heads = load(content), json.loads(metadata["heads"])
    net = create_model(metadata["arch"], len(json.loads(metadata["classes"])))
    if heads:
        net = HEADS[heads["kind"]](net, **heads["options"])
        weights = {
            key.removeprefix(HEADS_PREFIX) if key.startswith(HEADS_PREFIX) else f"net.{key}": tensor
            for key, tensor in weights.items()
        }
    net.load_state_dict(weights)
    deployed = Deployed(net, *(json.loads(metadata[name]) for name in ("resize", "crop", "crops")))

    @torch.inference_mode()
    def run(photographs: np.ndarray) -> np.ndarray:
        return deployed(torch.from_numpy(photographs)).numpy()

    return run


class Format(NamedTuple):
    """make(deployed, description) -> the bytes of a file; opened(bytes) -> what runs it, by the library `reader`."""

    suffix: str
    make: Callable[[Deployed, dict], bytes]
    opened: Callable[[bytes], Run]
    reader: str


FORMATS = {
    "onnx": Format(".onnx", onnx_file, open_onnx, "onnxruntime"),
    "torchscript": Format(".ts", torchscript_file, open_torchscript, "torch.jit"),
    "safetensors": Format(".safetensors", safetensors_file, open_safetensors, "safetensors"),
}


def interface(format: str, description: dict) -> dict:
    """What goes into a file of this format and what comes out, for JSON."""
    size, crop, classes = description["resize"], description["crop"], len(description["classes"])
    if format == "safetensors":
        input = ("images", "float32", ["N", 3, crop, crop], "RGB crops, / 255, - mean, / std")
        output = ("logits", "float32", ["N", classes], "their softmax are probabilities")
    else:
        input = (INPUT, "uint8", [AXIS, size, size, 3], "squashed RGB photographs")
        output = (OUTPUT, "float32", [AXIS, classes], "in the order of classes")
    keys = ("name", "dtype", "shape", "meaning")
    return {side: dict(zip(keys, values, strict=True)) for side, values in zip(INTERFACE, (input, output), strict=True)}


def to_json(description: dict) -> str:
    """One key on each line; pure ASCII, since names of folders need not be UTF-8."""
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in description.items()) + "\n}\n"


def _example(deployed: Deployed) -> torch.Tensor:
    # With one photograph the exporter would take N for the constant 1.
    return torch.zeros(2, deployed.resize, deployed.resize, 3, dtype=torch.uint8)


def _strings(description: dict) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in description.items()}
