"""Collections of torchmetrics; a single metric needs nothing of this, see ``docs/integrations.md``."""

from paretta.pipelines.integrations.torchmetrics import collection_metrics

__all__ = ["collection_metrics"]
