"""Clinical multimodal decision support that adds up.

Pointers to a patient's data become calibrated evidence in log-odds, one modality at a time; the evidence is added up
into a risk; and the same sum, opened up, is the explanation. Data flows one way::

    cohort folder --read--> Cohort(samples) --as-of firewall--> Records --Modality.read--> payloads
        payloads --Encoder--> Embedding --head--> evidence (log-odds against the base rate), cross-fitted by patient
        evidence --FusionModel--> calibrated logit and interval --> Explanation (the ledger) --> RiskReport
        RiskReport --> Parquet, HTML, JSON

A stage imports `medfusion.core` and libraries, never another stage; only `medfusion.pipeline` knows them all.
"""

__version__ = "0.1.0"
