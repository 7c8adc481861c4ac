"""Every registered task passes its contract tests."""

from collections.abc import Callable
from functools import partial

import pytest

from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.task import Task
from paretta.search_spaces.registry import TASKS
from paretta.testing import TaskContract


class TestTask(TaskContract):
    @pytest.fixture(params=TASKS.names())
    def make(self, request: pytest.FixtureRequest) -> Callable[[], Task]:
        return partial(load_task, request.param)
