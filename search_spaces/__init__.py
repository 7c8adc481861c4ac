"""What may vary and what counts as better: pure descriptions that need none of the heavy libraries."""

from search_spaces.errors import DamagedArtifact, ParettaError, Problem, TrialFailed, WrongInput
from search_spaces.front import Front
from search_spaces.holes import Choice, Float, Hole, Int
from search_spaces.objectives import Objective, Reading
from search_spaces.plan import Plan
from search_spaces.space import Asker, Knob, Space
from search_spaces.trial import Trial

__all__ = [
    "Asker",
    "Choice",
    "DamagedArtifact",
    "Float",
    "Front",
    "Hole",
    "Int",
    "Knob",
    "Objective",
    "ParettaError",
    "Plan",
    "Problem",
    "Reading",
    "Space",
    "Trial",
    "TrialFailed",
    "WrongInput",
]
