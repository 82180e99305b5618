"""How vLLM's server is started: its command and its variables. It listens in a folder of this user's, not at a port:
its own key does not guard all of its addresses, so the studio's server stands before it (`glmstudio.serve.vllm`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmstudio.chat.adapters import named_folders
from glmstudio.chat.vllm.installation import Vllm, find_vllm
from glmstudio.config import devices
from glmstudio.errors import StudioError
from glmstudio.families.chatglm3 import CHATGLM3
from glmstudio.families.recognition import NATIVE as GLM
from glmstudio.families.recognition import NATIVE_0414, family_of
from glmstudio.files import read_table
from glmstudio.models import ready_model
from glmstudio.models.exports.export_request import NATIVE, TOOL_PARSER
from glmstudio.models.exports.model_export import native_base
from glmstudio.models.family import refuse_other_adapter
from glmstudio.models.library import Model
from glmstudio.paths import CODE

MODULE = "vllm.entrypoints.openai.api_server"
_TYPES = {"auto": "auto", "fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has room for
_LATER = 64  # the largest rank of adapters that are added at run time
_OWN = 1024  # MiB of a GPU that are left to others
_CPU_CACHE = 4  # GiB for the KV cache without a GPU


@dataclass(frozen=True)
class VllmLaunch:
    """One start: the model's `name` in requests, its `folder` in transformers' format, LoRA adapters by their names,
    the GPUs it is split over ("cpu" without), and the type of the weights. `growing`: more adapters may come later.
    `reads_calls`: whether there is a tool parser for its family."""

    vllm: Vllm
    name: str
    folder: Path
    adapters: Mapping[str, Path]
    device: str
    dtype: str = "auto"
    growing: bool = False
    reads_calls: bool = True

    def command(self, listen: Path) -> list[str]:
        """The command; it listens at the socket `listen`."""
        on_cpu = self.device == devices.CPU
        dtype = "float32" if on_cpu and self.dtype == "auto" else _TYPES[self.dtype]  # as the studio's own server
        command = [
            self.vllm.python, "-m", MODULE, "--uds", str(listen), "--model", str(self.folder),
            "--served-model-name", self.name, "--dtype", dtype, "--tensor-parallel-size", str(self.split),
        ]  # fmt: skip
        if self.reads_calls:
            plugin = str(CODE / "glm/exports/outside" / TOOL_PARSER)
            command += ["--enable-auto-tool-choice", "--tool-parser-plugin", plugin, "--tool-call-parser", "chatglm3"]
        command += ["--enforce-eager"] if on_cpu else ["--gpu-memory-utilization", f"{self._share():.2f}"]
        return command + self._lora()

    def variables(self, key: str) -> dict[str, str]:
        """What the environment tells it: its key, the GPUs, and to report to nobody."""
        told = {
            "VLLM_API_KEY": key,
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1" if self.growing else "0",
        }
        if self.device == devices.CPU:
            return told | {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": str(_CPU_CACHE)}
        return told | {"CUDA_VISIBLE_DEVICES": self.device, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    @property
    def split(self) -> int:
        """Over how many GPUs each layer is split."""
        return devices.processes_on(self.device, 1)

    def _lora(self) -> list[str]:
        if not self.adapters and not self.growing:
            return []
        ranks = [rank_of(folder) for folder in self.adapters.values()]
        wanted = max([*ranks, _LATER if self.growing else _RANKS[0]])
        room = next((rank for rank in _RANKS if rank >= wanted), _RANKS[-1])
        most = max(1, len(self.adapters))
        command = ["--enable-lora", "--max-lora-rank", str(room), "--max-loras", str(most), "--max-cpu-loras", "16"]
        modules = [_module(name, folder) for name, folder in self.adapters.items()]
        return command + (["--lora-modules", *modules] if modules else [])

    def _share(self) -> float:
        """The share of each GPU's memory that it may take: what is free now, less a little."""
        shares = [(card.free - _OWN) / card.total for card in devices.cards_of(self.device) if card.total]
        return max(0.1, min(0.9, *shares)) if shares else 0.9


def prepare(
    model: str,
    adapters: Sequence[str],
    *,
    device: str = "",
    python: str = "",
    dtype: str = "auto",
    growing: bool = False,
) -> VllmLaunch:
    """Everything that can be said before vLLM is started. Raises StudioError, whose words are what to type."""
    found = ready_model(model)
    folder = native_folder(found)
    folders = named_folders(adapters, found.name)
    for name, each in folders.items():
        refuse_no_lora(name, each)
    chosen = devices.choose(device)
    heads = read_table(folder / "config.json").get("num_attention_heads")
    split = devices.processes_on(chosen, 1)
    if isinstance(heads, int) and heads % split:
        raise StudioError("chat.vllm.split", heads=heads, cards=split)
    reads_calls = family_of(folder) is CHATGLM3
    return VllmLaunch(find_vllm(python), found.name, folder, folders, chosen, dtype, growing, reads_calls)


def native_folder(model: Model) -> Path:
    """The model in transformers' own format: its folder, or where it was exported to. Raises StudioError."""
    own = read_table(model.path / "config.json").get("model_type") in (GLM, NATIVE_0414)
    if own and (model.path / "tokenizer.json").is_file():
        return model.path
    exported = native_base(model)
    if not exported:
        raise StudioError("chat.vllm.not_exported", model=model.name, form=NATIVE)
    return Path(exported)


def refuse_no_lora(name: str, folder: Path) -> None:
    """Raise StudioError for an adapter that vLLM cannot have: a prefix, or one with the published names of layers."""
    refuse_other_adapter(folder)
    about = read_table(folder / "adapter_config.json")
    if about.get("peft_type") != "LORA":
        raise StudioError("chat.vllm.prefix", name=name)
    targets = about.get("target_modules")
    if "query_key_value" in str(targets) or "dense" in str(targets):
        raise StudioError("chat.vllm.published_names", name=name)


def rank_of(folder: Path) -> int:
    """The rank of a LoRA adapter."""
    rank = read_table(folder / "adapter_config.json").get("r")
    return rank if isinstance(rank, int) and rank > 0 else _RANKS[0]


def _module(name: str, folder: Path) -> str:
    """An adapter as `--lora-modules` takes it; the plain form is read up to each "="."""
    if "=" in name or "=" in str(folder) or name.startswith("{"):
        return json.dumps({"name": name, "path": str(folder)}, ensure_ascii=False)
    return f"{name}={folder}"
