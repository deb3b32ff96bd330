"""First on PYTHONPATH, this makes a process believe that its CPU has AVX2 and nothing above it.

vLLM asks torch which of its compiled extensions to load and whether an FP8 KV cache is possible; oneDNN, MKL
and ATen have variables of their own, set here as well, so that bfloat16 is emulated as on such a machine.
"""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder

DENIED = (
    "_is_avx512_supported",
    "_is_avx512_bf16_supported",
    "_is_amx_tile_supported",
    "_is_amx_fp16_supported",
)

os.environ.update(ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2")


class Denying(Loader):
    """Loads torch.cpu, then lets its questions about the CPU answer no."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        for name in DENIED:
            if hasattr(module, name):
                setattr(module, name, lambda: False)


class Finder(MetaPathFinder):
    """Stands before Python's own finders for this one module."""

    def find_spec(self, name, path, target=None):
        if name != "torch.cpu":
            return None
        spec = PathFinder.find_spec(name, path, target)
        spec.loader = Denying(spec.loader)
        return spec


sys.meta_path.insert(0, Finder())
