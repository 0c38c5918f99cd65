"""Every text that a reader sees has a translation, and the compiled catalogues are those of the sources."""

import ast
from io import BytesIO
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

import dashboards
import medfusion.outputs
from dashboards.language import CATALOGUES, LANGUAGES

SOURCES = [
    *Path(dashboards.__file__).parent.rglob("*.py"),
    # The printed report is told the reader's language.
    *Path(medfusion.outputs.__file__).parent.glob("pdf*.py"),
]
KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2)}
TRANSLATED = sorted(set(LANGUAGES) - {"en"})


def extracted():
    found = (extract_from_file("python", str(file), keywords=KEYWORDS) for file in SOURCES)
    return {message for each in found for _line, message, *_rest in each}


def catalogue(file):
    with file.open("rb") as source:
        return read_po(source)


def fields(text):
    return {name for _literal, name, *_rest in Formatter().parse(text) if name}


@pytest.mark.parametrize("language", TRANSLATED)
def test_no_text_lacks_a_translation_and_no_translation_a_text(language):
    said = catalogue(CATALOGUES / language / "LC_MESSAGES" / "dashboards.po")
    texts = {message.id for message in said if message.id}
    assert texts == extracted()
    for message in said:
        if message.id:
            assert all(message.string if isinstance(message.string, tuple) else [message.string]), message.id
            assert "fuzzy" not in message.flags
            wanted = fields(message.id if isinstance(message.id, str) else message.id[1])
            given = message.string if isinstance(message.string, tuple) else (message.string,)
            assert all(fields(text) == wanted for text in given), message.id


def test_extraction_overlooks_nothing():
    """It does not look into f-strings; the parser of the language does."""
    called = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called_as = node.func if isinstance(node, ast.Call) else None
            name = getattr(called_as, "id", getattr(called_as, "attr", ""))
            if name in KEYWORDS:
                texts = [each.value for each in node.args if isinstance(each, ast.Constant) and each.value]
                if texts and isinstance(texts[0], str):
                    called.add(texts[0] if name != "ngettext" else tuple(texts[:2]))
    assert called == extracted()


@pytest.mark.parametrize("file", sorted(CATALOGUES.rglob("*.po")), ids=lambda file: f"{file.parts[-3]}-{file.stem}")
def test_a_compiled_catalogue_is_that_of_its_source(file):
    compiled = BytesIO()
    write_mo(compiled, catalogue(file))
    compiled.seek(0)
    with file.with_suffix(".mo").open("rb") as there:
        assert texts(read_mo(there)) == texts(read_mo(compiled)), "run make catalogues"


def texts(catalogue):
    return {str(message.id): message.string for message in catalogue if message.id}
