"""Contract tests that every task must pass: it is valid, and its data and initial model are reproducible."""

from collections.abc import Callable

import pytest
import torch

from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.task import Task


class TaskContract:
    """Override the fixture `make`."""

    @pytest.fixture
    def make(self) -> Callable[[], Task]:
        """Return the function under test."""
        raise NotImplementedError("override the fixture `make`")

    def test_it_is_sound(self, make: Callable[[], Task]) -> None:
        check_task(make())

    def test_its_data_are_the_same_each_time(self, make: Callable[[], Task]) -> None:
        assert data_digest(make()) == data_digest(make())

    def test_its_model_follows_the_seed(self, make: Callable[[], Task]) -> None:
        states = []
        for _ in range(2):
            torch.manual_seed(3)
            states.append(make().new_model().state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
