"""LightningModules with their DataModules."""

from paretta.pipelines.integrations.lightning import lightning_task

__all__ = ["lightning_task"]
