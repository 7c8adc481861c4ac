"""What a search and its trials tell each other through Tune: configs and reports, plain values and JSON text alone."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.results.trial_key import TrialKey
from paretta.search_spaces.space.plan import Plan

STATUS_KEY = "status"  # the key of a trial's report that holds its final state; only `complete` counts as measured
PROGRESS = "progress"  # the key of the last message of its training, as JSON text
DELIVERED = "delivered"  # the key of a measured by-product, as JSON text
RETURNED = "returned"  # the state of a trial that did not start because the sweep stops; neither complete nor failed

TuneConfig: TypeAlias = dict[str, object]


def config_of(key: TrialKey, plan: Plan, knobs: Mapping[str, Json], by_products: Sequence[Plan] = ()) -> TuneConfig:
    """Return what Tune passes to the trial of a suggestion: its key, plans as documents, and knobs."""
    more = [other.to_document() for other in by_products]
    return {**key.to_document(), "plan": plan.to_document(), "knobs": dict(knobs), "by_products": more}


def key_of(config: TuneConfig) -> TrialKey:
    """Return the key in a config that `config_of` made."""
    return TrialKey.from_document(cast(Document, config))
