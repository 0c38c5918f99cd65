"""What identifies people, gathered from DICOM headers, so that it is found in texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medfusion.deidentify.identity import Identity

_NUMBERS = {
    *("PatientID", "OtherPatientIDs", "IssuerOfPatientID", "MedicalRecordLocator", "AdmissionID", "ServiceEpisodeID"),
    *("AccessionNumber", "StudyID", "RequestedProcedureID", "ScheduledProcedureStepID", "PerformedProcedureStepID"),
    *("FillerOrderNumberImagingServiceRequest", "PlacerOrderNumberImagingServiceRequest"),
}
_TEXTS = {"PatientAddress", "PatientTelephoneNumbers", "PatientTelecomInformation"}
_NAMES = {"PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson"}
_PLACES = {"InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName"}
_MAX_LENGTH = 200
"""Longer values are no names, and a file may have many."""


@dataclass(slots=True)
class Gathered:
    """What identifies patients, and the staff and places of the whole cohort.

    Attributes
    ----------
    patients : dict from subject to Identity
    staff : Identity
    """

    patients: dict[str, Identity] = field(default_factory=dict)
    staff: Identity = field(default_factory=Identity)

    def add(self, dataset: Any, subject_id: str) -> None:
        """Add what a dataset says at every depth.

        Parameters
        ----------
        dataset : pydicom Dataset
        subject_id : str
            Whose it is.
        """
        patient = self.patients.setdefault(subject_id, Identity())
        for tag in [tag for tag in sorted(dataset.keys()) if not tag.is_private]:
            element = dataset[tag]
            if element.VR == "SQ":
                for item in element.value or ():
                    self.add(item, subject_id)
            elif (found := self._place_for(element, patient)) is not None:
                words = (str(value).strip() for value in values_of(element.value))
                found.update(word for word in words if 0 < len(word) <= _MAX_LENGTH)

    def _place_for(self, element: Any, patient: Identity) -> set[str] | None:
        """Return the set that an element's values belong to; None for an element that names nobody."""
        places = (
            (_NUMBERS, patient.numbers),
            (_TEXTS, patient.texts),
            (_NAMES, patient.names),
            (_PLACES, self.staff.texts),
        )
        for keywords, place in places:
            if element.keyword in keywords:
                return place
        return self.staff.names if element.VR == "PN" else None


def values_of(value: Any) -> list[Any]:
    """Return the values of an element, whether it has none, one or many."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
