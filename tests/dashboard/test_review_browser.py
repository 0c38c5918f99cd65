"""From the sign-in to a decision and back, in a real browser, of invented patients and of real ones."""

import pytest
from browsing import sign_in
from provider import ROLES, Provider
from reviewing import review
from serving import dashboard, free_port

from medfusion.pipeline import Desk, load_for, score, train

KIM = {"sub": "k-1", "preferred_username": "kim", "groups": ["icu-leads"]}


def test_from_the_sign_in_to_an_override_and_its_trail(visit, scored, trained, new_patients, cache, tmp_path):
    port, desk = free_port(), Desk(load_for(trained.folder, cache), new_patients.folder)
    with Provider({"kim": KIM}) as provider:
        auth = provider.secrets_file(tmp_path / "secrets.toml", port, ROLES)
        options = ["--cohort", new_patients.folder, "--model", trained.folder, "--auth", auth]
        options += ["--reviews", f"sqlite:///{tmp_path}/reviews.db"]
        with dashboard(scored, tmp_path, *options, port=port) as server:
            assert review(sign_in(visit, server.url, "kim"), server, scored, desk).reader == "kim"


@pytest.mark.shared
def test_the_same_with_films_and_notes_of_real_patients(shared, browser, visit, tmp_path):
    cohort, model, cache = shared / "cohorts" / "covid-cxr", tmp_path / "model", tmp_path / "cache"
    train(cohort, model, task="icu", cache=cache)
    score(model, cohort, tmp_path / "scores", cache=cache)
    options = ["--cohort", cohort, "--model", model, "--reviews", f"sqlite:///{tmp_path}/reviews.db"]
    with dashboard(tmp_path / "scores", tmp_path, *options) as server:
        review(visit(server.url), server, tmp_path / "scores", Desk(load_for(model, cache), cohort))
