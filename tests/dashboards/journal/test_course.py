"""How a trial went, from its progress messages."""

from pathlib import Path

from synthetic_sweep import write_sweep

from paretta.dashboards.journal.course import Course


def test_epochs_count_over_all_trainings_of_a_trial() -> None:
    course = Course()
    for epoch in (1, 2, 3):
        course.take({"stage": "train", "epoch": epoch, "num_epochs": 3, "where": "lane 1"}, 10.0 + epoch)
    for epoch in (1, 2):
        scores = {"accuracy": 0.5 + epoch / 10}
        course.take({"stage": "distill", "epoch": epoch, "num_epochs": 2, "scores": scores, "where": "lane 1"}, 20.0)
    course.take({"state": "measuring"}, 30.0)
    course.take({"state": "measuring", "waits": "for the agent at http://pi5:7711"}, 35.0)
    assert (course.where, course.trained, course.measured) == ("lane 1", 11.0, 30.0)
    assert course.scores == {4: {"accuracy": 0.6}, 5: {"accuracy": 0.7}}


def test_a_training_that_was_delivered_again_overwrites_its_epochs() -> None:
    course = Course()
    for epoch, value in ((1, 0.1), (2, 0.2), (1, 0.3), (2, 0.4), (3, 0.5)):
        course.take({"stage": "train", "epoch": epoch, "scores": {"accuracy": value}}, 1.0)
    assert course.scores == {1: {"accuracy": 0.3}, 2: {"accuracy": 0.4}, 3: {"accuracy": 0.5}}


def test_a_record_keeps_the_course_of_each_trial(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=4, artifacts=False)
    assert set(record.courses) == set(record.trials)
    first = record.courses["baseline"]
    assert first.where == "lane 0 on 10.0.0.1"
    assert first.trained is not None
    assert first.measured is not None
    assert record.trials["baseline"].started < first.trained < first.measured < record.trials["baseline"].finished
