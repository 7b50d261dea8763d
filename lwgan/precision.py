"""In which precision networks compute: float32, or bfloat16 where this machine is faster in it.

Processors without AMX or AVX512-BF16 emulate bfloat16: on an AVX2 machine a convolution, forward and backward, takes ten
times as long in it as in float32, and more elsewhere. So `auto` measures, once for each machine, and keeps the result.
"""

import hashlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Literal, get_args

import torch
from torch.nn import functional as F

Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[PrecisionChoice, ...] = get_args(PrecisionChoice)

_MUCH_FASTER = (
    1.3  # bfloat16 must win by this factor, so that noise of a measurement decides nothing
)
_LONGEST = 1.0  # seconds that measuring may take
_CHANNELS, _SIZE = (
    64,
    64,
)  # of the convolution: a layer in the middle of our networks, at 256 pixels
_FILE = "precision.json"
_measured: dict[str, Precision] = {}
"""By machine_id; so that a process whose cache cannot be written decides once."""


def resolve_precision(choice: str, device: str = "cpu") -> Precision:
    """The precision that a choice means on a device.

    Args:
        choice: "float32", "bfloat16", or "auto": the faster one of a CPU; of a GPU bfloat16, if it computes in it.
        device: "cpu" or "cuda".

    Raises:
        ValueError: there is no such choice.
    """
    if choice not in PRECISIONS:
        raise ValueError(f"Unknown precision {choice!r}. Choose one of: {', '.join(PRECISIONS)}.")
    if choice != "auto":
        return choice
    if device != "cpu":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    machine = machine_id()
    if machine not in _measured:
        kept = _read_kept()
        if kept is None:
            kept = fastest_precision()
            _keep(kept)
        _measured[machine] = kept
    return _measured[machine]


def drawing_precision(choice: str, device: str = "cpu") -> Precision:
    """As `resolve_precision`, for pictures that are shown or scored: on a GPU `auto` means float32.

    There both are fast, and frames are compared with those of other machines.
    """
    if choice == "auto" and device != "cpu":
        return "float32"
    return resolve_precision(choice, device)


def fastest_precision() -> Precision:
    """Measure one convolution, forward and backward, in both precisions; takes at most a second or so."""
    seconds = {name: measure_convolution(name) for name in get_args(Precision)}
    return "bfloat16" if seconds["bfloat16"] * _MUCH_FASTER < seconds["float32"] else "float32"


def measure_convolution(precision: Precision) -> float:
    """Seconds that a 3 x 3 convolution of 64 channels at 64 x 64 takes on this CPU, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(_CHANNELS, _CHANNELS, 3, 3, generator=generator).requires_grad_()
    x = torch.randn(1, _CHANNELS, _SIZE, _SIZE, generator=generator)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    best, begun = float("inf"), time.perf_counter()
    for _ in range(4):  # the first one builds kernels
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            y = F.conv2d(x, weight, padding=1)
        y.float().sum().backward()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - begun > _LONGEST / 4:
            break
    return best


def machine_id() -> str:
    """A digest of what decides the speed: processor, instruction sets as torch may use them, torch's version."""
    known = [
        platform.machine(),
        _processor(),
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        *(os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")),
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _processor() -> str:
    """Model and flags, where Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def _kept_file() -> Path | None:
    from iper_toolkit.folders import NoHome, cache_folder

    try:
        return cache_folder("IPER_CACHE") / _FILE
    except NoHome:
        return None  # then it is measured each time


def _read_kept() -> Precision | None:
    path = _kept_file()
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[machine_id()]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found in get_args(Precision) else None


def _keep(precision: Precision) -> None:
    """Remember it; a cache that cannot be written costs a second each time, and nothing else."""
    from iper_toolkit.atomic import write_atomically

    path = _kept_file()
    if path is None:
        return
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    kept = {**(kept if isinstance(kept, dict) else {}), machine_id(): precision}
    try:
        write_atomically(path, lambda part: part.write_text(json.dumps(kept), encoding="utf-8"))
    except OSError:
        return
