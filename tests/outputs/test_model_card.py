"""The model card says what the record holds, and marks what it does not."""

import re
import shlex

import pytest
from markdown_it import MarkdownIt
from run_records import EVIL, RECORD, SUBGROUPS, evil, paths, without
from test_pages import assert_stands_alone

from medfusion.core.errors import UsageError
from medfusion.outputs.document import AUTHOR, Document, Section, Table, Text
from medfusion.outputs.facts import KINDS, Facts, training_command
from medfusion.outputs.model_card import GAPS, model_card
from medfusion.outputs.papers import PAPERS, write_papers

# The sections of Mitchell et al. 2019, and one more.
SECTIONS = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
    "How to reproduce",
]
CARD = model_card({**RECORD, "subgroups": SUBGROUPS})


def said(card, section):
    """Return all text of a section as a reader of the Markdown gets it."""
    table = card.frame()
    return "\n".join(table.loc[table["section"] == section, "text"])


def test_the_sections_are_those_of_model_cards_for_model_reporting():
    assert [section.title for section in CARD.sections] == SECTIONS


@pytest.mark.parametrize(
    ("section", "facts"),
    [
        (
            "Model details",
            ["0123456789abcdef", "2025-03-04", "medfusion 9.8.7", "Late fusion", "ehr 0.75, notes 0.125"],
        ),
        ("Intended use", ["admitted to intensive care", "a probability"]),
        ("Factors", ["notes for 190 of 207", "median 66.5", "F 48, M 55", "Sites: 3"]),
        ("Metrics", ["AUROC", "95 %, by 200 resamples", "from the members"]),
        ("Evaluation data", ["4-fold cross-validation"]),
        ("Training data", ["ward-nine: 207 samples of 103 patients", "invented ward", "2021-04-05", "bad-time 3"]),
        ("Quantitative analyses", ["0.866 (0.826 to 0.906) | 0.801 (0.761 to 0.841) | 0.702 (0.662 to 0.742)"]),
        ("Quantitative analyses", ["| 0.125 | 0.100 | 0.050 | 0.250 | 104 | 10 |", "too few: 17 of 20 samples"]),
        ("Quantitative analyses", ["| sex=F | 96 | 0.888 |"]),
        ("Caveats and recommendations", ["31 patients with the event", "absent ones are absent", "it is left out"]),
        ("How to reproduce", ["medfusion reproduce MODEL COHORT", "numpy 2.99.1", "c0" * 32, "12 files, 3,456 bytes"]),
    ],
)
def test_the_card_says_what_the_record_holds(section, facts):
    assert [fact for fact in facts if fact not in said(CARD, section)] == []


def test_what_only_an_author_knows_is_marked_until_the_author_says_it():
    assert CARD.markdown().count(AUTHOR) == len(GAPS)
    written = {key: f"Said of {key}." for key in GAPS}
    card = model_card({**RECORD, "subgroups": SUBGROUPS}, written)
    assert AUTHOR not in card.markdown()
    assert [text for text in written.values() if text not in card.markdown()] == []
    with pytest.raises(UsageError, match="a model card has no gap licence; it has: owner, intended use"):
        model_card(RECORD, {"licence": "none"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model_id",), "0123456789abcdef"),
        (("medfusion",), "9.8.7"),
        (("parameters", "fusion"), "Late fusion"),
        (("parameters", "only"), "--only"),
        (("modalities", "notes", "identity"), "tfidf"),
        (("modalities", "ehr", "samples"), "207 of 207"),
        (("positive",), "admitted to intensive care"),
        (("description",), "invented ward"),
        (("subjects", "sites"), "Sites"),
        (("folds",), "4-fold"),
        (("patients_with_event",), "31"),
        (("prediction_times", "last"), "2021-04-05"),
        (("left_out",), "bad-time"),
        (("methods", "unusable_input"), "it is left out"),
        (("chosen",), "0.75"),
        (("cross_validated", "fused", "intervals"), "resamples"),
        (("cross_validated", "fused", "reliability"), "0.495"),
        (("cross_validated", "fused", "patterns"), "ehr + notes"),
        (("cross_validated", "fused"), "0.866"),
        (("versions",), "2.99.1"),
        (("data", "files"), "3,456"),
        (("subgroups",), "sex=F"),
    ],
)
def test_a_fact_that_is_taken_from_the_record_is_asked_of_the_author(path, value):
    record = {**RECORD, "subgroups": SUBGROUPS}
    assert value in CARD.markdown()
    text = model_card(without(record, path)).markdown()
    assert value not in text
    assert text.count(AUTHOR) > len(GAPS)


@pytest.mark.parametrize("path", paths(RECORD), ids=".".join)
def test_no_missing_fact_stops_the_card(path):
    card = model_card(without(RECORD, path))
    assert [section.title for section in card.sections] == SECTIONS
    assert len(card.markdown()) > 1000


def test_an_empty_record_leaves_every_fact_to_the_author():
    kinds = model_card({}).frame()["kind"].value_counts()
    assert kinds["author"] > 2 * len(GAPS)
    assert "table" not in kinds
    assert "reliability" not in kinds


@pytest.mark.parametrize("kind", ["late", "gated", "early", "joint"])
def test_every_kind_of_fusion_is_told_in_plain_words_and_an_unknown_one_is_asked_for(kind):
    assert KINDS[kind] in said(model_card({**RECORD, "parameters": {"fusion": kind}}), "Model details")
    unknown = said(model_card({**RECORD, "parameters": {"fusion": f"{kind}-2"}}), "Model details")
    assert f"{AUTHOR}:** what kind of model it is, in plain words" in unknown


def test_the_command_gives_the_shell_the_words_of_the_run():
    settings = {"imaging": {"weights": "a b/$HOME.safetensors"}, "notes": {"encoder": "transformer"}}
    parameters = {"task": "icu", "settings": settings, "only": ["notes"], "fusion": "gated", "folds": 5, "seed": 3}
    words = shlex.split(training_command(Facts({"parameters": parameters})))
    assert words[:3] == ["medfusion", "train", "COHORT"]
    assert dict(zip(words[3:13:2], words[4:13:2], strict=True)) == {
        "--task": "icu",
        "--fusion": "gated",
        "--seed": "3",
        "--only": "notes",
        "--set": "imaging.weights=a b/$HOME.safetensors",
    }
    assert words[13:] == ["--set", "notes.encoder=transformer", "--out", "MODEL"]


def test_the_picture_of_calibration_shows_each_group_where_it_belongs():
    html = CARD.html()
    # Up is negative in SVG.
    assert re.findall(r'<circle cx="([\d.]+)" cy="(-?[\d.]+)"', html) == [("0.1250", "-0.1000"), ("0.5000", "-0.4950")]
    assert re.findall(r'<path d="M([\d.]+) (-[\d.]+)V(-[\d.]+)"', html) == [
        ("0.1250", "-0.0500", "-0.2500"),
        ("0.5000", "-0.3750", "-0.6000"),
    ]


def test_the_page_stands_alone_and_escapes_what_came_from_the_data():
    page = assert_stands_alone(model_card(evil(RECORD), {"owner": EVIL}).html())
    assert "".join(page.text).count(EVIL) > 20
    assert page.tags.count("h2") == len(SECTIONS)
    assert "Research use only. Not a medical device" in "".join(page.text)


def test_no_text_of_the_data_acts_as_markdown():
    card = model_card(evil(RECORD), {"owner": "# no heading", "advice": "- no list"})
    html = MarkdownIt("commonmark").enable("table").render(card.markdown())
    assert html.count("<h2>") == len(SECTIONS)
    assert not re.search(r"<script|<em>|<a |<li>|<blockquote>", html)
    assert "# no heading" in html
    assert "Research use only. Not a medical device" in html


def test_a_cell_cannot_break_its_row():
    table = Table(["a", "b|c"], [["x | y", 1234], [None, 0.5], [(Text("1\n2"),), True]])
    html = MarkdownIt("commonmark").enable("table").render(Document("T", "L", [Section("S", [table])]).markdown())
    assert re.findall(r"<t[hd]>(.*?)</t[hd]>", html) == ["a", "b|c", "x | y", "1,234", "", "0.500", "1 2", "yes"]


def test_the_papers_of_a_record_are_four_files_and_the_same_each_time(tmp_path):
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_papers(tmp_path / name, RECORD)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(PAPERS)
        contents.append([(tmp_path / name / paper).read_text(encoding="utf-8") for paper in PAPERS])
    assert contents[0] == contents[1]
    assert "Model card: icu" in contents[0][0]
    assert "TRIPOD+AI checklist: icu" in contents[0][2]
