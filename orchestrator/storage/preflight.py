"""Check that every node of a cluster can reach the sweep's files, before anything is computed."""

import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paretta.orchestrator.storage.object_store import check_storage
from paretta.search_spaces.errors import Problem, WrongInput, first_line

NODE_ANSWER_S: Final = 90.0  # includes starting a process and unpacking our package on the node


def require_reached(home: Path, storage: str | None) -> None:
    """Check that every node of the cluster can write to `storage` or, without a storage, to `home`.

    Raises:
        WrongInput: a node cannot, or does not answer.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) == 1 and storage is None:
        return
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    with tempfile.TemporaryDirectory(dir=nearest, prefix=".paretta-") as probe:
        asked = {_ask(node, probe, storage): node for node in nodes}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_ANSWER_S)
        problems = [
            problem for task, node in asked.items() if (problem := _problem(task, node, answered, home, storage))
        ]
    if problems:
        raise WrongInput(*problems)


def _ask(node: Mapping[str, Any], probe: str, storage: str | None) -> "ray.ObjectRef[str]":
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(_try).options(scheduling_strategy=there).remote(probe, storage)


def _try(probe: str, storage: str | None) -> str:
    """Return why this node cannot reach the files; an empty string if it can."""
    if storage is not None:
        try:
            check_storage(storage)
        except WrongInput as error:
            return error.problems[0].rule
        return ""
    if not Path(probe).is_dir():
        return "does not see it"
    try:
        tempfile.TemporaryDirectory(dir=probe).cleanup()
    except OSError as error:
        return f"cannot write to it: {error.strerror}"
    return ""


def _problem(
    task: "ray.ObjectRef[str]",
    node: Mapping[str, Any],
    answered: "list[ray.ObjectRef[str]]",
    home: Path,
    storage: str | None,
) -> Problem | None:
    name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    if task not in answered:
        return Problem(
            "cluster", f"{name} did not start a small task within {NODE_ANSWER_S:g} s", hint="look at `ray status`"
        )
    try:
        why = ray.get(task)
    except ray.exceptions.RayError as error:
        why = f"failed to run a small task: {first_line(error)}"
    if not why:
        return None
    if storage is not None:
        return Problem("--storage", f"{name}: {why}", storage, "set the credentials in the environment of `ray start`")
    hint = "give a folder that all nodes share, or a storage such as --storage s3://bucket/sweeps"
    return Problem("--home", f"{name} {why}", f"{socket.gethostname()}:{home}", hint)
