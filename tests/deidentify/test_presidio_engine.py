"""The optional engine: Presidio on a spaCy pipeline that the caller loaded."""

import importlib.util

import pytest

from medfusion.core.errors import MissingExtra
from medfusion.deidentify import PresidioEngine
from medfusion.deidentify.identity import Identity
from medfusion.deidentify.pseudonyms import Pseudonyms
from medfusion.deidentify.text import Scrubber


def test_without_presidio_the_error_names_the_extra():
    if importlib.util.find_spec("presidio_analyzer"):
        pytest.skip("presidio-analyzer is installed")
    with pytest.raises(MissingExtra, match=r"medfusion\[presidio\]"):
        PresidioEngine(None)


@pytest.mark.filterwarnings("ignore")
def test_names_of_a_pipeline_and_numbers_with_a_checksum_are_found():
    pytest.importorskip("presidio_analyzer")
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Zelda"}])
    scrubber = Scrubber(Pseudonyms(bytes(32)), {}, Identity(), [PresidioEngine(pipeline)])
    text = "Zelda paid with 4111 1111 1111 1111 on that day, BP 120/80, 3/10"
    assert scrubber.scrub(text, "7")[0] == "[NAME] paid with [ID] on that day, BP 120/80, 3/10"
