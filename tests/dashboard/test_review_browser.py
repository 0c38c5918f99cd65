"""From the worklist to a decision and back, in a real browser, of invented patients and of real ones."""

import pytest
from reviewing import review
from serving import dashboard

from medfusion.pipeline import Desk, load_for, score, train


def test_from_the_worklist_to_an_override_and_its_trail(server, visit, scored, trained, new_patients, cache):
    desk = Desk(load_for(trained.folder, cache), new_patients.folder)
    review(visit(server.url), server, scored, desk)


@pytest.mark.shared
def test_the_same_with_films_and_notes_of_real_patients(shared, browser, visit, tmp_path):
    cohort, model, cache = shared / "cohorts" / "covid-cxr", tmp_path / "model", tmp_path / "cache"
    train(cohort, model, task="icu", cache=cache)
    score(model, cohort, tmp_path / "scores", cache=cache)
    options = ["--cohort", cohort, "--model", model, "--reviews", f"sqlite:///{tmp_path}/reviews.db"]
    with dashboard(tmp_path / "scores", tmp_path, *options) as server:
        review(visit(server.url), server, tmp_path / "scores", Desk(load_for(model, cache), cohort))
