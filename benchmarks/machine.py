"""The computer and the software that a run was made with, and what memory it took."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import iper_toolkit


def resolve_device(device: str) -> str:
    """What a device on the command line means here: "auto" is the GPU if torch can use one. Raises as `check_device`."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return device


def check_device(device: str) -> None:
    """Raise ValueError unless torch can compute there: else every case would fail, and count against the method."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"There is no device {device!r}; --device takes cpu, cuda, or cuda:1 for a second GPU."
        ) from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device {device}: there is no GPU that torch {torch.__version__} can use. Take --device cpu, or see to "
            "the driver and to a torch that is built for it."
        )
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device {device}: there are {torch.cuda.device_count()} GPUs, counted from cuda:0."
        )


def peak_memory_bytes() -> int:
    """Most memory that this process has held so far, whatever it was for."""
    if sys.platform == "win32":  # pragma: no cover
        return 0  # not known there without another package
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def peak_device_memory_bytes(device: str) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.startswith("cuda") else 0


def machine() -> dict[str, Any]:
    """The computer, for whoever reads the seconds."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_initialized() else ""
    return {
        "system": platform.system(),
        "processor": model,
        "num_cores": os.cpu_count(),
        "gpu": gpu,
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of what pictures and scores depend on."""
    found = {"iper-toolkit": iper_toolkit.__version__}
    for name in ("numpy", "torch", "numba", "opencv-python", "scipy", "av", "decord", "pyarrow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
