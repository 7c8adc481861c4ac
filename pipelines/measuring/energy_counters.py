"""Read this machine's energy counters: RAPL of the processor packages, NVML of NVIDIA devices."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Joules: TypeAlias = Callable[[], float]

POWERCAP = Path("/sys/class/powercap")
NVML_LIBRARY = "libnvidia-ml.so.1"


@dataclass(slots=True)
class RaplZone:
    """One processor package, whose counter wraps around at a known limit.

    Args:
        folder: such as ``/sys/class/powercap/intel-rapl:0``.
    """

    folder: Path
    _last: int = field(default=0, init=False)
    _wrapped: int = field(default=0, init=False)

    def microjoules(self) -> int:
        """Return a monotonic reading; must be called more often than the counter wraps around."""
        now = int((self.folder / "energy_uj").read_text(encoding="utf-8"))
        if now < self._last:
            self._wrapped += int((self.folder / "max_energy_range_uj").read_text(encoding="utf-8"))
        self._last = now
        return self._wrapped + now


def rapl(root: Path = POWERCAP) -> Joules | None:
    """Return the joules of all processor packages together, including other work; None if they cannot be read."""
    zones = [RaplZone(folder) for folder in sorted(root.glob("*-rapl:*")) if folder.name.count(":") == 1]
    try:
        for zone in zones:
            zone.microjoules()
    except OSError:  # it exists, but only the administrator may read it
        return None
    return (lambda: sum(zone.microjoules() for zone in zones) / 1e6) if zones else None


def nvml(library: str = NVML_LIBRARY) -> Joules | None:
    """Return the joules of the first NVIDIA device, including other work on it; None if there is none.

    Not run on a GPU: written from NVIDIA's NVML API reference, ``nvmlDeviceGetTotalEnergyConsumption`` in mJ.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    device, energy = ctypes.c_void_p(), ctypes.c_ulonglong()
    if driver.nvmlInit_v2() or driver.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)):
        return None

    def joules() -> float:
        code = int(driver.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(energy)))
        if code:
            raise OSError(f"NVML could not read the energy counter: code {code}")
        return energy.value / 1e3

    return None if driver.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(energy)) else joules
