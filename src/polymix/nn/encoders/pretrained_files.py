"""Where a pretrained network's files lie, and the network that is built from them.

Of `transformers` only its own classes are built, those named here, from a configuration whose
fields are known and bounded; weights are read from safetensors by polymix. Nothing in such a folder
says which code runs, which other file is read, or what is fetched.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from polymix.datasets.cache import cache_folder
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import is_model_name

TEXT_NETWORKS = (
    "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra",
    "ernie", "modernbert", "mpnet", "nomic_bert", "roberta", "roformer", "xlm-roberta",
)  # fmt: skip
IMAGE_NETWORKS = (
    "beit", "bit", "clip_vision_model", "convnext", "convnextv2", "data2vec-vision", "deit",
    "dinov2", "dinov2_with_registers", "dinov3_vit", "efficientnet", "hiera", "ijepa", "levit",
    "mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "pvt", "pvt_v2", "regnet", "resnet",
    "siglip_vision_model", "swin", "swinv2", "vit", "vit_mae",
)  # fmt: skip
"""By `model_type`. None of them builds a part by another model's name."""

# Tables of labels are large and no feature; how attention is computed may name code on the hub.
_IGNORED = frozenset({"architectures", "dtype", "id2label", "label2id", "problem_type",
                      "transformers_version", "output_hidden_states", "return_dict"})  # fmt: skip
_OF_PIXELS = ("image_mean", "image_std")
_FILES = ["config.json", "preprocessor_config.json", "model*.safetensors",
          "model.safetensors.index.json"]  # fmt: skip
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
MAX_SIZE, MAX_DEPTH, MAX_ITEMS = 1_000_000, 1000, 1000
"""The largest size of a configuration, number of layers, and length of a list."""
MAX_JSON = 10_000_000

_downloads: ContextVar[bool] = ContextVar("downloads", default=False)
_self_contained: ContextVar[bool] = ContextVar("self_contained", default=False)


@contextlib.contextmanager
def downloads(allowed: bool) -> Iterator[None]:
    """Let models be fetched from the hub, without a token, where a person said so."""
    before = _downloads.set(allowed)
    try:
        yield
    finally:
        _downloads.reset(before)


@contextlib.contextmanager
def self_contained() -> Iterator[None]:
    """Build networks from what their genotype says alone: their weights come with a state."""
    before = _self_contained.set(True)
    try:
        yield
    finally:
        _self_contained.reset(before)


def is_self_contained() -> bool:
    """Whether neither a folder nor a cache is looked at (see `self_contained`)."""
    return _self_contained.get()


def locate(name: str, digest: str) -> Path:
    """The folder of a model's files.

    Args:
        name: a hub id, or a folder where there is no digest: a person names it, no genotype.
        digest: of the weights, where a genotype names them; else empty.

    Raises:
        OSError: there is none here.
    """
    if digest and (known := _remembered(digest)) is not None:
        return known
    if not digest and name and Path(name).is_dir():
        return Path(name)
    if not is_model_name(name):
        raise OSError("there is no such folder")
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    found = try_to_load_from_cache(name, "config.json")
    if isinstance(found, str):
        return Path(found).parent
    if not _downloads.get():
        raise OSError("it is not among the models downloaded; --allow-download fetches it")
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES, token=False))
    except (HfHubHTTPError, OfflineModeIsEnabled, ValueError) as error:
        raise OSError(" ".join(str(error).split())[:200]) from None


def remember(digest: str, folder: Path) -> None:
    """Note in the cache where weights lie, so that a genotype need name no folder."""
    path = _note(digest)
    text = json.dumps({"folder": str(folder.resolve())})
    # Without a note the weights are not found by their digest alone, and that is told then.
    with contextlib.suppress(OSError):
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _remembered(digest: str) -> Path | None:
    try:
        folder = Path(json.loads(_note(digest).read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return folder if folder.is_dir() else None


def _note(digest: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        raise GenotypeError(f"a digest is 16 hex digits, but got '{digest[:40]}'")
    return cache_folder() / "pretrained" / f"{digest}.json"


def read_network(folder: Path, known: Collection[str]) -> tuple[nn.Module, Any]:
    """A network with its weights, and its configuration.

    Args:
        folder: has `config.json` and `model.safetensors`, whole or in parts.
        known: the architectures that may be built.

    Raises:
        OSError: a file is missing.
        ValueError: something in one cannot be used.
    """
    fields = _json(folder / "config.json")
    pixels = folder / "preprocessor_config.json"
    told = _json(pixels) if pixels.is_file() else {}
    config = config_of(fields | {n: told[n] for n in _OF_PIXELS if n in told}, known)
    state = _state(folder)
    cls = _network_class(config)
    _check_room(cls, config, state)
    # Without a name the library looks at no file and at no hub: it only renames older weights.
    net, found = cls.from_pretrained(
        None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True,
        local_files_only=True, trust_remote_code=False, use_safetensors=True,
    )  # fmt: skip
    lost = sorted(found["missing_keys"])
    if kept := [name for name in lost if "pooler" not in name and "mask_token" not in name]:
        raise ValueError(f"model.safetensors has no {', '.join(kept[:3])}")
    own = net.state_dict()
    for name in lost:  # drawn at random by the library, and part of no feature
        own[name].zero_()
    return net, config


def blank_network(text: str, known: Collection[str]) -> tuple[nn.Module, Any]:
    """A network without its weights, from its configuration as JSON.

    Raises:
        ValueError: it cannot be built.
    """
    try:
        fields = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    config = config_of(fields, known)
    return _network_class(config)(config), config


def config_of(fields: object, known: Collection[str]) -> Any:
    """A configuration of one of the library's own networks, from fields that its class knows.

    Args:
        fields: of a `config.json`.
        known: the architectures that may be built.

    Raises:
        ValueError: it is of no such network, or a value is out of bounds.
    """
    if not isinstance(fields, dict):
        raise ValueError("the configuration is no JSON object")
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"no network of type {str(kind)[:60]!r}: {did_you_mean(str(kind), known)}")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    cls = CONFIG_MAPPING[kind]
    names = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"} - _IGNORED
    kept = {name: value for name, value in fields.items() if name in names}
    pixels = {name: fields[name] for name in _OF_PIXELS if name in fields}
    problems = [p for name, value in {**kept, **pixels}.items() if (p := _unlike(name, value))]
    problems += [
        f"{name} is three numbers, of which none is 0, but got {value!r:.60}"
        for name, value in pixels.items()
        if not _is_colour(value)
    ]
    if problems:
        raise ValueError("; ".join(problems))
    try:
        config = cls(**kept)
    except Exception as error:  # the library raises classes of its own
        raise ValueError(f"configuration: {' '.join(str(error).split())[:200]}") from None
    for name, value in pixels.items():
        setattr(config, name, value)
    return config


def _network_class(config: Any) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    return MODEL_MAPPING[type(config)]


def _unlike(name: str, value: object) -> str | None:
    """What is wrong with a value, if anything."""
    if isinstance(value, list | tuple):
        if len(value) > MAX_ITEMS:
            return f"{name} has {len(value)} items, and {MAX_ITEMS} are the most"
        return next((p for item in value if (p := _unlike(name, item))), None)
    if isinstance(value, dict):  # how positions are encoded, say
        if len(value) > MAX_ITEMS or not all(isinstance(key, str) for key in value):
            return f"{name} is no small table"
        return next((p for key, item in value.items() if (p := _unlike(key, item))), None)
    if isinstance(value, str):
        return None if re.fullmatch(r"[\w-]{0,60}", value) else f"{name}: {value[:60]!r} is no word"
    most = MAX_DEPTH if "layers" in name or name == "depths" else MAX_SIZE
    if isinstance(value, int | float) and not abs(value) <= most:
        return f"{name} must be at most {most:,}, but got {value}"
    return None


def _is_colour(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(v, int | float) and v for v in value)
    )


def _json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise ValueError(f"{path.name} has more than {MAX_JSON:,} bytes")
    try:
        fields = json.loads(data)
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return fields


def _state(folder: Path) -> dict[str, Tensor]:
    """Weights from safetensors in the folder itself, whatever an index of parts says."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        paths = [whole]
    else:
        parts = _json(index).get("weight_map")
        named = set(parts.values()) if isinstance(parts, Mapping) else set()
        if not named or not all(isinstance(n, str) and _SHARD.fullmatch(n) for n in named):
            raise ValueError(f"{index.name} names other files than parts of the model")
        paths = [folder / name for name in sorted(named)]
    try:
        return {name: tensor for path in paths for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise ValueError(f"not safetensors ({' '.join(str(error).split())[:100]})") from None


def _check_room(cls: Any, config: Any, state: Mapping[str, Tensor]) -> None:
    """Refuse a configuration of a network far larger than its weights, before it is made."""
    with torch.device("meta"):
        asked = sum(p.numel() for p in cls(config).parameters())
    there = sum(tensor.numel() for tensor in state.values())
    if asked > 2 * there + 1_000_000:
        raise ValueError(f"config.json asks for {asked:,} weights, and {there:,} are there")
