"""What every registered task keeps: it passes its own check, and its data and start are the same each time."""

import pytest
import torch

from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.loading.load_task import load_task
from paretta.search_spaces.registry import TASKS


@pytest.mark.parametrize("name", TASKS.names())
class TestTask:
    def test_it_is_sound(self, name: str) -> None:
        check_task(load_task(name))

    def test_its_data_are_the_same_each_time(self, name: str) -> None:
        assert data_digest(load_task(name)) == data_digest(load_task(name))

    def test_its_model_follows_the_seed(self, name: str) -> None:
        states = []
        for _ in range(2):
            torch.manual_seed(3)
            states.append(load_task(name).new_model().state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
