"""What the command refuses before it starts anything."""

import pytest


def test_help_shows_an_example(medfusion):
    assert "Example: medfusion dashboard scores" in medfusion("dashboard", "--help").out


def test_a_folder_without_scores_is_named_with_what_to_do(medfusion, tmp_path):
    done = medfusion("dashboard", tmp_path)
    assert done.code == 1
    assert "no-scores" in done.err
    assert "medfusion score" in done.err


def test_another_machine_may_not_come_in_without_signing_in(medfusion, tmp_path):
    done = medfusion("dashboard", tmp_path, "--host", "192.0.2.1")
    assert done.code == 2
    assert "without --auth" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[auth", "no TOML"),
        ("", "[auth] has no redirect_uri"),
        (
            '[auth]\nredirect_uri="u"\ncookie_secret="short"\nclient_id="c"\nclient_secret="s"\n'
            'server_metadata_url="m"',
            "cookie_secret is too short",
        ),
    ],
)
def test_a_file_that_says_too_little_of_the_sign_in_is_refused(medfusion, tmp_path, text, said):
    (tmp_path / "secrets.toml").write_text(text, encoding="utf-8")
    done = medfusion("dashboard", tmp_path, "--auth", tmp_path / "secrets.toml")
    assert done.code == 2
    assert said in done.err


def test_a_missing_extra_is_told_with_the_command_that_brings_it(medfusion, tmp_path, monkeypatch):
    monkeypatch.setattr("medfusion.cli.dashboard._NEEDED", ("no_such_package",))
    done = medfusion("dashboard", tmp_path)
    assert done.code == 1
    assert "pip install 'medfusion[dashboard]'" in done.err
