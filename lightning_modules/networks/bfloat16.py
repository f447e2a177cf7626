"""Whether a CPU computes in bfloat16: others emulate it, 4 to 15 times slower than float32, or not at all."""

import os

import torch

WITH_UNITS = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")
"""Parts of the names under which oneDNN's environment variable allows such instructions."""


def has_bfloat16_units() -> bool:
    """Returns whether this CPU has AVX512-BF16 or AMX, and the environment does not keep torch from using them."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL")).upper()
    if not torch.backends.mkldnn.is_available() or not any(part in allowed for part in WITH_UNITS):
        return False
    if os.environ.get("ATEN_CPU_CAPABILITY", "").lower() in ("default", "avx2"):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def lacks_bfloat16(x: torch.Tensor) -> bool:
    """Returns whether autocast would compute with ``x`` in bfloat16 on a CPU that cannot."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not has_bfloat16_units()
