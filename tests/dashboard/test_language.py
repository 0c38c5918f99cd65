"""What a reader of each language sees."""

from datetime import datetime

import pytest

from dashboards import language


def test_a_text_without_a_translation_stays_english():
    language.use("ko")
    assert language._("no such text in any catalogue") == "no such text in any catalogue"


def test_dates_are_written_as_koreans_write_them():
    language.use("ko")
    assert language.when(datetime(2026, 3, 1, 14, 5)).startswith("2026. 3. 1.")


def test_an_unknown_language_is_refused():
    with pytest.raises(KeyError):
        language.use("xx")
    assert language.current() == "en"
