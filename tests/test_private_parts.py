"""What we use of torch, Ray and MLflow beside their public interfaces: each part is there, and used in one module."""

import importlib
import re
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = {
    "torch": Path("pipelines/model/torch_private.py"),
    "ray": Path("orchestrator/cluster/ray_private.py"),
    "mlflow": Path("dashboards/tracking/mlflow_private.py"),
}
TRAINER = "ray.train.v2.api.data_parallel_trainer"
# package, module, the dotted name in it, and what no longer works without it
PARTS = [
    ("torch", "torch.onnx._internal.exporter._registration", "ONNXRegistry.from_torchlib", "export in short time"),
    ("torch", "torch.onnx._internal.exporter._fx_passes", "decompose_with_registry", "export in short time"),
    ("torch", "torch.onnx._internal.exporter._decomp", "get_onnx_implemented_overloads", "export in short time"),
    ("torch", "torch.cpu", "_is_avx512_bf16_supported", "the warning that bfloat16 is emulated"),
    ("torch", "torch.nn", "MultiheadAttention._reset_parameters", "transfer that starts attention anew"),
    ("torch", "torch.nn", "GRU._init_flat_weights", "recurrent layers of few bits"),
    ("torch", "torch.nn", "GRU._update_flat_weights", "recurrent layers of few bits"),
    ("ray", "ray._raylet", "AuthenticationTokenLoader.instance", "clusters with a token"),
    ("ray", "ray._raylet", "AuthenticationTokenLoader.has_token", "clusters with a token"),
    ("ray", "ray._raylet", "AuthenticationTokenLoader.reset_cache", "a second cluster in one process"),
    ("ray", "ray._raylet", "Config.initialize", "a second cluster in one process"),
    ("ray", "ray._private.ray_constants", "ENABLE_RAY_CLUSTER", "a cluster of our own on loopback"),
    ("ray", "ray._private.services", "ConsolePopen", "a cluster that a signal to the driver's group does not end"),
    ("ray", "ray._private.runtime_env.packaging", "default_logger", "quiet uploads to a cluster"),
    ("ray", TRAINER, "DataParallelTrainer._create_default_callbacks", "lanes without processes that none needs"),
    ("ray", TRAINER, "PlacementGroupCleanerCallback", "lanes without processes that none needs"),
    ("ray", TRAINER, "DatasetsCallback", "lanes without processes that none needs"),
    ("ray", "ray.air._internal.usage", "tag_callbacks", "a driver that loads no MLflow"),
    ("ray", "ray.tune.schedulers", "TrialScheduler._supports_buffered_results", "a stopper that hears every report"),
    ("ray", "ray.tune.execution.tune_controller", "TuneController.get_live_trials", "a short choice of the next trial"),
    ("mlflow", "mlflow.store.tracking.sqlalchemy_store", "SqlAlchemyStore", "a database that is made once"),
]
MODULE_FIELDS = (
    "_parameters",
    "_buffers",
    "_non_persistent_buffers_set",
    "_modules",
    "_forward_pre_hooks",
    "_forward_hooks",
    "_forward_hooks_always_called",
)


def broken(package: str, what: str, use: str) -> str:
    return f"{package} {version(package)} has no {what} any more, which is needed for {use}: change {PLACES[package]}"


@pytest.mark.parametrize(("package", "module", "name", "use"), PARTS, ids=[f"{m}.{n}" for _, m, n, _ in PARTS])
def test_the_installed_version_still_has_it(package: str, module: str, name: str, use: str) -> None:
    try:
        found: object = importlib.import_module(module)
    except ImportError:
        pytest.fail(broken(package, module, use))
    for part in name.split("."):
        assert hasattr(found, part), broken(package, f"{module}.{name}", use)
        found = getattr(found, part)


@pytest.mark.parametrize("name", MODULE_FIELDS)
def test_a_module_of_torch_still_keeps_its_parts_there(name: str) -> None:
    from torch import nn

    assert name in nn.Module().__dict__, broken("torch", f"nn.Module.{name}", "models that are written as data")


def test_nothing_else_uses_private_parts() -> None:
    """By their names: a module below a private one, a private name of a package, or a private field of a module."""
    private = re.compile(
        r"\b(?:torch|ray|mlflow)(?:\.\w+)*\._[a-z]\w*"  # torch.cpu._is_..., from ray._raylet
        rf"|\w\.(?:{'|'.join(MODULE_FIELDS)})\b"
        r"|sqlalchemy_store"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("orchestrator", "pipelines", "dashboards", "search_spaces")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.relative_to(ROOT) not in PLACES.values()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if private.search(line) and "self._" not in line
    ]
    assert found == []
