"""On real records: shapes, speed, and that the features carry what they should."""

import time
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from medfusion.core.folder import CohortFolder
from medfusion.core.types import Records

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def icu(ehr, shared):
    """Return records and outcomes of icu-mortality; all predictions are made at one moment."""
    folder = shared / "cohorts" / "icu-mortality"
    table = ehr.index(CohortFolder.open(folder)).sort_by([("subject_id", "ascending"), ("time", "ascending")])
    labels = pd.read_csv(folder / "labels" / "mortality.csv", index_col="subject_id")
    subjects = pd.read_csv(folder / "subjects.csv", index_col="subject_id").astype(object)
    facts = subjects.where(subjects.notna(), None).to_dict("index")
    events, moment = labels["boolean_value"].to_dict(), datetime.fromisoformat(labels["prediction_time"].iloc[0])
    runs = pc.run_end_encode(table["subject_id"].combine_chunks())
    ends = runs.run_ends.to_pylist()
    starts = [0, *ends[:-1]]
    names = runs.values.to_pylist()
    return [
        (Records(name, moment, table.slice(start, end - start), facts[name]), events[name])
        for name, start, end in zip(names, starts, ends, strict=True)
    ]


def test_the_index_of_a_million_events_is_a_matter_of_seconds(ehr, shared):
    folder = CohortFolder.open(shared / "cohorts" / "icu-mortality")
    start = time.perf_counter()
    table = ehr.index(folder)
    assert time.perf_counter() - start < 10
    assert table.num_rows == 1_737_629
    assert folder.problems == []
    assert pa.types.is_dictionary(table.schema.field("code").type)


def test_events_of_intensive_care_predict_mortality(ehr, icu):
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold
    from xgboost import XGBClassifier

    start = time.perf_counter()
    payloads = ehr.read([record for record, _ in icu], [], lambda done: None)
    assert time.perf_counter() - start < 10
    events = np.array([event for _, event in icu])
    risks = np.empty(len(events))
    for train, test in StratifiedKFold(2, shuffle=True, random_state=7).split(events, events):
        encoder = ehr.encoder()
        encoder.fit([payloads[place] for place in train], events[train])
        embedding = encoder.encode(payloads)
        assert embedding.present.all()
        codes = {name.rpartition(" ")[0] for name in embedding.feature_names} - {""}
        assert len(codes) == 37
        assert embedding.feature_names[-4:] == ["age_years", "height_cm", "sex=F", "sex=M"]
        model = XGBClassifier(
            n_estimators=120, learning_rate=0.08, subsample=0.7, colsample_bytree=0.2, max_depth=3, max_bin=64, n_jobs=1
        )
        risks[test] = model.fit(embedding.values[train], events[train]).predict_proba(embedding.values[test])[:, 1]
    # Trees that learn from half of the patients; the full model learns from four fifths.
    assert roc_auc_score(events, risks) > 0.84


def test_sparse_measurements_beside_films_are_read(ehr, shared):
    folder = CohortFolder.open(shared / "cohorts" / "covid-cxr")
    table = ehr.index(folder)
    assert set(table["code"].unique().to_pylist()) == {
        "days_since_onset",
        "leukocyte_count",
        "lymphocyte_count",
        "neutrophil_count",
        "oxygen_saturation",
        "temperature",
    }
    assert folder.problems == []
