# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an exception says of the device: it was full, or it is lost to this process for good."""

from __future__ import annotations

import torch

# Called wrongly, CUDA refuses and goes on. Everything else that it reports has broken the process's context: each later
# call reports the same, whatever it is.
_REFUSALS = (
    'invalid argument',
    'invalid configuration',
    'invalid device',
    'invalid resource handle',
    'no kernel image',
    'not supported',
    'stream is capturing',
    'too many resources',
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device had no memory for something; after that it goes on as before."""
    return isinstance(error, torch.OutOfMemoryError) or 'out of memory' in str(error).lower()


def is_device_lost(error: BaseException) -> bool:
    """Return whether an exception comes from a device that will answer nothing any more in this process.

    Devices that hold memory of torch's are asked; without one the exception's own words decide.
    """
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    used = [index for index in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(index)]
    if used:
        return not all(_answers(index) for index in used)
    text = str(error)
    is_of_cuda = type(error).__name__ == 'AcceleratorError' or 'CUDA error: ' in text or 'Error [CUDA]' in text
    return is_of_cuda and not any(refusal in text for refusal in _REFUSALS)


def _answers(index: int) -> bool:
    try:
        torch.cuda.synchronize(index)
    except RuntimeError:
        return False
    return True
