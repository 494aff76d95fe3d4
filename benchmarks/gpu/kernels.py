"""Where the time of a recorded conrec step goes, kernel by kernel: preset paper, bf16, batch 16.

python -m benchmarks.gpu.kernels
"""

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.noise import step_on_noise
from probekit.config import resolve
from probekit.device import choose_device
from probekit.registry import METHODS, get

WARM, STEPS = 8, 5


def main() -> None:
    """Prints the profiler's table of `STEPS` replays."""
    device = choose_device("cuda")
    options = {"train.precision": "bf16"}
    config = resolve("conrec", get(METHODS, "method", "conrec"), preset="paper", seed=0, options=options)
    job = step_on_noise(config, channels=1, size=128, n=64, device=device, say=print)
    for _ in range(WARM):
        job()
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(STEPS):
            job()
        torch.cuda.synchronize(device)
    print(found.key_averages().table(sort_by="self_device_time_total", row_limit=45))


if __name__ == "__main__":
    main()
