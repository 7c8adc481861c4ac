"""The work that trials share: the stages before a plan's last training are carried out once."""

from paretta.orchestrator.policy.problem import SharedPrefix
from paretta.pipelines.training.settings import TrainSettings
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.registry import STAGES
from paretta.search_spaces.space.plan import Plan


def shared_prefix_of(plan: Plan) -> SharedPrefix | None:
    """Return the work before a plan's last training, with its epochs as cost; None if it trains nothing.

    >>> train, prune = {"kind": "train", "epochs": 5, "lr": 0.1}, {"kind": "prune", "sparsity": 0.5}
    >>> shared_prefix_of(Plan((train,), (prune, train, {"kind": "quantize", "bits": 4}, train))).cost
    5.0
    >>> shared_prefix_of(Plan((train,), (prune, train)))
    """
    trained = [index for index, stage in enumerate(plan.stages) if _trains(stage)]
    if len(trained) < 2:
        return None
    uid = plan.prefixes()[len(plan.baseline) + trained[-1] - 1]
    return SharedPrefix(uid, float(sum(_epochs(plan.stages[index]) for index in trained[:-1])))


def _trains(stage: Document) -> bool:
    return issubclass(STAGES.load(str(stage["kind"])), TrainSettings)  # type: ignore[arg-type]


def _epochs(stage: Document) -> int:
    epochs = stage.get("epochs", TrainSettings.model_fields["epochs"].default)
    assert isinstance(epochs, int)
    return epochs
