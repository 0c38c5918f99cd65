"""A cohort that was de-identified is still the same cohort: intervals, the firewall, what can be learnt."""

import re
import shutil
import stat

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest

from medfusion.cohort import open_cohort
from medfusion.core.errors import DataError, UsageError
from medfusion.deidentify import deidentify_cohort, new_key, read_key
from medfusion.deidentify.pseudonyms import Pseudonyms
from medfusion.pipeline import build_modalities, train

KEY = bytes(range(32))
PSEUDONYMS = Pseudonyms(KEY)
CONFIG = '[tasks.t]\nlabels = "labels/t.csv"\n'


@pytest.fixture(scope="module")
def after(synthetic, tmp_path_factory):
    out = tmp_path_factory.mktemp("after") / "cohort"
    deidentify_cohort(synthetic.folder, out, key=KEY)
    return out


def write_cohort(folder, **tables):
    (folder / "labels").mkdir(parents=True)
    (folder / "cohort.toml").write_text(CONFIG)
    labels = "subject_id,prediction_time,boolean_value\na1,2020-01-05T00:00:00,True\nb2,2020-01-05T00:00:00,False\n"
    (folder / "labels" / "t.csv").write_text(labels)
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def content(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("table", ["ehr", "notes", "labels/deterioration"])
def test_every_time_of_a_patient_moves_by_the_same_days(synthetic, after, table):
    column = "prediction_time" if table.startswith("labels") else "time"
    before, new = (pd.read_csv(folder / f"{table}.csv", parse_dates=[column]) for folder in (synthetic.folder, after))
    before["subject_id"] = before["subject_id"].map(PSEUDONYMS.subject)
    before = before.sort_values("subject_id", kind="stable").reset_index(drop=True)
    assert new["subject_id"].tolist() == before["subject_id"].tolist()
    moved = (before[column] - new[column]).groupby(new["subject_id"]).unique()
    assert all(len(days) == 1 for days in moved)
    old_names = {
        PSEUDONYMS.subject(name): name for name in pd.read_csv(synthetic.folder / "subjects.csv")["subject_id"]
    }
    expected = {new: PSEUDONYMS.shift_days(old) for new, old in old_names.items()}
    assert {name: days[0].days for name, days in moved.items()} == {name: expected[name] for name in moved.index}


def test_headers_move_by_the_same_days_and_keep_their_clock(synthetic, after):
    for file in list((synthetic.folder / "imaging").rglob("*.dcm"))[:10]:
        film = pydicom.dcmread(file, stop_before_pixels=True)
        number = int(file.stem)
        new = pydicom.dcmread(after / "imaging" / PSEUDONYMS.subject(film.PatientID) / f"{number:05d}.dcm")
        days = pd.Timedelta(days=PSEUDONYMS.shift_days(film.PatientID))
        assert new.StudyTime == film.StudyTime
        assert pd.Timestamp(new.StudyDate) == pd.Timestamp(film.StudyDate) - days
        assert pd.Timestamp(str(new.AcquisitionDateTime)) == pd.Timestamp(str(film.AcquisitionDateTime)) - days


def test_the_firewall_hands_out_as_many_records_as_before(synthetic, after):
    def counts(folder):
        modalities = build_modalities({}, None)
        cohort = open_cohort(folder, list(modalities.values()))
        assert [problem for problem in cohort.problems if problem.severity == "error"] == []
        found = []
        for sample in cohort.samples:
            sizes = tuple(cohort.records(name, [sample])[0].table.num_rows for name in modalities)
            name = sample.subject_id if sample.subject_id.startswith("p") else PSEUDONYMS.subject(sample.subject_id)
            found.append((name, sample.event, sizes))
        return sorted(found, key=str)

    assert counts(after) == counts(synthetic.folder)


def test_the_same_can_be_learnt(synthetic, after, cache, tmp_path):
    """The folds follow the order of subjects, so they are compared with a copy that differs in these alone."""
    renamed = tmp_path / "renamed"
    shutil.copytree(synthetic.folder, renamed)
    for file in renamed.rglob("*.csv"):
        table = pd.read_csv(file, dtype=str)
        table["subject_id"] = table["subject_id"].map(PSEUDONYMS.subject)
        table.to_csv(file, index=False)
    for file in renamed.rglob("*.dcm"):
        film = pydicom.dcmread(file)
        film.PatientID = PSEUDONYMS.subject(film.PatientID)
        film.save_as(file)
    results = [train(folder, tmp_path / folder.name, cache=cache).results for folder in (renamed, after)]
    assert results[0].keys() == results[1].keys() == {"ehr", "imaging", "notes", "fused"}
    for name in results[0]:
        before, new = (result[name].estimates["auroc"].value for result in results)
        assert new == pytest.approx(before, abs=0.01), name


def test_the_same_key_gives_the_same_copy_and_another_one_another(synthetic, after, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    deidentify_cohort(synthetic.folder, again, key=KEY)
    deidentify_cohort(synthetic.folder, other, key=bytes(32))
    assert content(again) == content(after)
    names = [set(pd.read_csv(folder / "subjects.csv")["subject_id"]) for folder in (after, other)]
    assert names[0].isdisjoint(names[1])


def test_rows_are_in_the_order_of_pseudonyms_which_tells_nothing_of_the_old_one(after):
    for table in ("subjects.csv", "ehr.csv", "labels/deterioration.csv"):
        names = pd.read_csv(after / table)["subject_id"]
        assert names.is_monotonic_increasing


def test_people_above_89_become_90(tmp_path):
    births = "subject_id,birth_date\na1,1920-01-05\nb2,1931-03-05\nc3,1990-01-01\n"
    cohort = write_cohort(tmp_path / "in", subjects=births)
    deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    subjects = pd.read_csv(tmp_path / "out" / "subjects.csv", parse_dates=["birth_date"]).set_index("subject_id")
    labels = pd.read_csv(tmp_path / "out" / "labels" / "t.csv", parse_dates=["prediction_time"]).set_index("subject_id")
    ages = (labels["prediction_time"] - subjects["birth_date"]).dt.days / 365.25
    assert ages[PSEUDONYMS.subject("a1")] == pytest.approx(90, abs=0.01)
    # 5 March 1931 to 5 January 2020 are 32,448 days.
    assert ages[PSEUDONYMS.subject("b2")] == pytest.approx(32_448 / 365.25)
    assert pd.isna(subjects["birth_date"][PSEUDONYMS.subject("c3")])


def test_ages_and_sites_and_identifying_columns_of_subjects(tmp_path):
    rows = [f"{name},{age},Seoul Hospital,{770000 + age},x,{age / 7:.3f}" for name, age in (("a1", 95), ("b2", 89))]
    rows += [f"s{number},40,Busan,{880000 + number},x,1.5" for number in range(40)]
    header = "subject_id,age_years,site,code_no,Patient Name,bmi\n"
    cohort = write_cohort(tmp_path / "in", subjects=header + "\n".join(rows) + "\n")
    report = deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    subjects = pd.read_csv(tmp_path / "out" / "subjects.csv").set_index("subject_id")
    assert list(subjects.columns) == ["age_years", "site", "bmi"]
    assert subjects["age_years"][PSEUDONYMS.subject("a1")] == 90
    assert subjects["age_years"][PSEUDONYMS.subject("b2")] == 89
    assert subjects["site"].nunique() == 2
    assert subjects["site"].str.fullmatch(r"site-[0-9a-f]{8}").all()
    assert report.tables["subjects"].columns_left_out == 2


def test_rows_that_cannot_be_cleaned_do_not_leave(tmp_path):
    rows = ["a1,2020-01-01,k,4", "a1,01/02/2020,k,5", "a1,2020-01-02,k,Kim", ",2020-01-02,k,1"]
    events = "\n".join(["subject_id,time,code,numeric_value", *rows, ""])
    cohort = write_cohort(tmp_path / "in", ehr=events)
    report = deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    assert pd.read_csv(tmp_path / "out" / "ehr.csv")["numeric_value"].tolist() == [4]
    assert report.tables["ehr"].rows_left_out == 3


def test_wide_events_keep_numbers_alone(tmp_path):
    events = "subject_id,time,K,Na,phone,remark\na1,2020-01-01T08:00:00+09:00,4.1,,5551234,Kim\n"
    cohort = write_cohort(tmp_path / "in", ehr=events)
    deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    new = pd.read_csv(tmp_path / "out" / "ehr.csv", dtype=str)
    assert list(new.columns) == ["subject_id", "time", "K", "Na"]
    assert new["K"].tolist() == ["4.1"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT08:00:00\+09:00", new["time"][0])


def test_codes_that_look_like_dates_stay(tmp_path):
    events = "subject_id,time,code,numeric_value\na1,2020-01-01,1988-5,4\na1,2020-01-01,2028-9,24\n"
    cohort = write_cohort(tmp_path / "in", ehr=events)
    deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    assert pd.read_csv(tmp_path / "out" / "ehr.csv")["code"].tolist() == ["1988-5", "2028-9"]


def test_parquet_stays_parquet_and_loses_its_metadata(tmp_path):
    cohort = write_cohort(tmp_path / "in")
    times = pa.array(np.array(["2020-03-01T10:00:00"], dtype="datetime64[us]"))
    table = pa.table({"subject_id": ["a1"], "time": times, "text": ["홍길동 교수, 2020-03-01"]})
    pq.write_table(table.replace_schema_metadata({"author": "Gildong"}), cohort / "notes.parquet")
    deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    new = pq.read_table(tmp_path / "out" / "notes.parquet")
    day = pd.Timestamp("2020-03-01") - pd.Timedelta(days=PSEUDONYMS.shift_days("a1"))
    assert new.schema.metadata is None
    assert new.to_pylist() == [
        {
            "subject_id": PSEUDONYMS.subject("a1"),
            "time": (day + pd.Timedelta(hours=10)).to_pydatetime(),
            "text": f"[NAME] 교수, {day:%Y-%m-%d}",
        }
    ]


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    cohort = write_cohort(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        deidentify_cohort(cohort, tmp_path / "out", key=KEY)


def test_the_copy_cannot_lie_in_the_cohort(tmp_path):
    cohort = write_cohort(tmp_path / "in")
    with pytest.raises(UsageError, match="lie in each other"):
        deidentify_cohort(cohort, cohort / "imaging" / "out", key=KEY)


def test_nothing_is_left_behind_where_a_table_cannot_be_read(tmp_path):
    cohort = write_cohort(tmp_path / "in", notes='subject_id,time,text\na1,2020-01-01,"open\n')
    with pytest.raises(DataError, match="unpaired-quote"):
        deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_key_is_random_private_and_never_overwritten(tmp_path):
    path = tmp_path / "key"
    key = new_key(path)
    assert read_key(path) == key
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="name a new file"):
        new_key(path)


def test_a_short_key_is_refused(tmp_path):
    (tmp_path / "key").write_bytes(b"secret")
    with pytest.raises(UsageError, match="holds 6 bytes"):
        read_key(tmp_path / "key")
    with pytest.raises(UsageError, match="at least 32"):
        deidentify_cohort(write_cohort(tmp_path / "in"), tmp_path / "out", key=b"secret")
    with pytest.raises(UsageError, match="No such file"):
        read_key(tmp_path / "none")
