"""Each warning of a worker reaches the user once, whatever module logs it."""

import logging

from paretta.orchestrator.lanes.log_capture import captured_warnings, warnings_in, with_warnings


def test_each_warning_is_handed_on_once_and_nothing_else_is() -> None:
    logger = logging.getLogger("paretta")
    with captured_warnings() as heard:
        logger.warning("the disk is %s", "full")
        logger.info("epoch 1")
        assert heard.take() == ["the disk is full"]
        logger.warning("the disk is full")
        logger.error("the disk is gone")
        assert heard.take() == ["the disk is gone"]
    logger.warning("too late")
    assert heard.take() == []


def test_warnings_of_several_messages_come_together() -> None:
    quiet, loud = {"epoch": 1}, with_warnings({"epoch": 2}, ["a", "b"])
    assert with_warnings(quiet, []) is quiet
    assert warnings_in(quiet, loud, with_warnings(quiet, ["b", "c"])) == ["a", "b", "c"]
