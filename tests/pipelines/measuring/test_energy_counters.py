"""Energy counters are read in the formats of the kernel and of the driver, from a fake of each."""

import ctypes
from pathlib import Path

import pytest

from paretta.pipelines.measuring import energy_counters
from paretta.pipelines.measuring.energy_counters import nvml, rapl


def zone(root: Path, name: str, microjoules: int) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{microjoules}\n", encoding="utf-8")
    (folder / "max_energy_range_uj").write_text("262143328850\n", encoding="utf-8")
    return folder


def test_packages_add_up_and_their_parts_do_not_count_twice(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", 1_000_000)
    zone(tmp_path, "intel-rapl:0:0", 900_000)
    zone(tmp_path, "intel-rapl:1", 500_000)
    joules = rapl(tmp_path)
    assert joules is not None
    assert joules() == pytest.approx(1.5)
    (first / "energy_uj").write_text("3000000\n", encoding="utf-8")
    assert joules() == pytest.approx(3.5)


def test_a_counter_that_starts_again_goes_on_rising(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", 262_143_000_000)
    joules = rapl(tmp_path)
    assert joules is not None
    before = joules()
    (folder / "energy_uj").write_text("671150\n", encoding="utf-8")
    assert joules() - before == pytest.approx((262_143_328_850 - 262_143_000_000 + 671_150) / 1e6)


def test_where_nothing_can_be_read_there_is_no_counter(tmp_path: Path) -> None:
    assert rapl(tmp_path / "missing") is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert rapl(tmp_path) is None
    assert nvml("libno-such-driver.so.9") is None


class Driver:
    """A fake of the functions of NVIDIA's library that are used."""

    def __init__(self, *, init: int = 0, energy: int = 0) -> None:
        self.millijoules, self.init, self.energy = 5000, init, energy

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return self.init

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: object) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, device: object, energy: object) -> int:  # noqa: N802
        energy._obj.value = self.millijoules  # type: ignore[attr-defined]
        return self.energy


def test_a_device_s_millijoules_become_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(energy_counters.ctypes, "CDLL", lambda name: driver)
    joules = nvml()
    assert joules is not None
    driver.millijoules = 7500
    assert joules() == 7.5


@pytest.mark.parametrize("driver", [Driver(init=9), Driver(energy=3)])
def test_a_device_without_a_counter_has_none(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert nvml() is None
