"""The files in deploy/ match the code: Ray's parser accepts them, tokens are on, no service is public."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from paretta.orchestrator.cluster.measuring_slot import SLOT
from paretta.search_spaces.yaml_io import read_yaml

DEPLOY = Path(__file__).parents[1] / "deploy"


def document(name: str) -> Any:
    return read_yaml(DEPLOY / name).data


def test_ray_up_takes_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(document("autoscaler.yaml"))
    validate_config(config)
    started = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in started if "ray start" in line)
    assert config["available_node_types"]["head"]["resources"][SLOT] == 1


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycluster.yaml"])
def test_a_kubernetes_cluster_has_a_token_a_slot_and_a_shared_folder(name: str) -> None:
    spec = document(name)["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"]["mode"] == "token"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert sum(SLOT in group["rayStartParams"].get("resources", "") for group in groups) == 1
    for group in groups:
        pod = group["template"]["spec"]
        claims = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
        assert claims == {document("storage.yaml")["metadata"]["name"]}
        assert [mount["mountPath"] for container in pod["containers"] for mount in container["volumeMounts"]] == [
            "/sweeps"
        ]
    assert "--home /sweeps" in spec.get("entrypoint", "--home /sweeps")


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_through_s3_a_cluster_is_the_same_with_keys_for_a_folder(name: str) -> None:
    spec = document(f"{name}.yaml")["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        del pod["volumes"]
        for container in pod["containers"]:
            del container["volumeMounts"]
            container["envFrom"] = [{"secretRef": {"name": "paretta-s3"}}]
    if "entrypoint" in spec:
        spec["entrypoint"] = spec["entrypoint"].replace("/sweeps", "/tmp/sweeps --storage s3://BUCKET/sweeps")
    assert document(f"{name}-s3.yaml")["spec"] == spec


def test_the_store_is_published_on_loopback_and_has_no_password_of_its_own() -> None:
    services = document("compose.yaml")["services"]
    assert [port for service in services.values() for port in service.get("ports", [])] == ["127.0.0.1:5000:5000"]
    assert services["store"]["environment"]["POSTGRES_PASSWORD"].startswith("${MLFLOW_PASSWORD:?")


def test_the_image_holds_all_packages_and_runs_as_nobody_special() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = {words[1] for line in lines if (words := line.split())[:1] == ["COPY"] and len(words) == 3}
    allowed = set((DEPLOY / "Dockerfile.dockerignore").read_text().replace("!", "").split())
    assert {"src", "search_spaces", "pipelines", "dashboards", "orchestrator"} <= copied
    assert copied - {"pyproject.toml"} <= allowed | {"pyproject.toml"}
    assert "USER ray" in lines
