"""What can go wrong, as types: one small tree, so that callers can catch by meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["error", "warning"]
MAX_LINES_PER_CODE = 5
"""How many problems of one kind in one place are told singly; the rest are counted in one more line."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the data, told in one line.

    Attributes
    ----------
    code : str
        Stable kebab-case identifier, such as ``"bad-time"``.
    file : str
        Path relative to the cohort folder.
    where : str
        ``"row 12"`` (counted from 1, header not counted) or ``"subject C2"``; empty for the whole file.
    field : str
        Column, DICOM keyword or key.
    got, expected, remedy : str
        What stands there, what should, and what to do about it.
    severity : {"error", "warning"}
        An ``"error"`` means that the record, file or row was left out.
    subject_id : str
        Whose data it is, where that is known.

    Examples
    --------
    >>> print(Problem("bad-time", "ehr.csv", "row 3", "time", "01/02/2020", "ISO 8601", "write 2020-02-01").line())
    error ehr.csv row 3: time is '01/02/2020', expected ISO 8601; write 2020-02-01 [bad-time]
    """

    code: str
    file: str
    where: str
    field: str
    got: str
    expected: str
    remedy: str
    severity: Severity = "error"
    subject_id: str = ""

    def line(self) -> str:
        """Return the problem as one line of text."""
        place = " ".join(part for part in (self.file, self.where) if part)
        got = self.got if len(self.got) <= 60 else self.got[:57] + "..."
        said = f"{self.field} is {got!r}, expected {self.expected}; {self.remedy}"
        return f"{self.severity} {place}: {said} [{self.code}]".replace("\n", " ")


def shortened(problems: Iterable[Problem]) -> list[Problem]:
    """Keep the first few problems of each code, file and field, and count the others in one more line.

    Examples
    --------
    >>> problem = Problem("bad-time", "ehr.csv", "row 3", "time", "01/02/2020", "ISO 8601", "correct it")
    >>> print(shortened([problem] * 9)[-1].line())
    error ehr.csv 4 more: time is 'the same', expected ISO 8601; correct it [bad-time]
    """
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.code, problem.file, problem.field), []).append(problem)
    kept: list[Problem] = []
    for group in groups.values():
        kept.extend(group[:MAX_LINES_PER_CODE])
        if (more := len(group) - MAX_LINES_PER_CODE) > 0:
            kept.append(replace(group[-1], where=f"{more} more", got="the same", subject_id=""))
    return kept


class MedfusionError(Exception):
    """Root of every error that medfusion raises on purpose."""


class UsageError(MedfusionError):
    """The call itself is wrong (exit code 2)."""


class DataError(MedfusionError):
    """The data cannot be used as a whole (exit code 1).

    Parameters
    ----------
    problems : sequence of Problem
        At least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(problem.line() for problem in problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[DataError], tuple[Sequence[Problem]]]:
        # An exception that is sent to another process is built again from what its constructor was given.
        return type(self), (self.problems,)


class PayloadRejected(MedfusionError):
    """One file or record cannot be used; the rest of the cohort can.

    Parameters
    ----------
    problem : Problem
        What is wrong with it.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.line())
        self.problem = problem

    def __reduce__(self) -> tuple[type[PayloadRejected], tuple[Problem]]:
        return type(self), (self.problem,)


class RunStopped(MedfusionError):
    """A long run cannot go on (exit code 1); what is finished is kept, and the same command goes on from there."""


class ReviewUnavailable(MedfusionError):
    """The database of decisions cannot be used now (exit code 1); what is not confirmed is not recorded."""


class FirewallBreach(MedfusionError):
    """A record later than the prediction time was about to reach a model."""


class ModelFolderError(MedfusionError):
    """A model folder is damaged, tampered with, or from an unknown version."""


class MissingExtra(MedfusionError):
    """An optional package is needed.

    Parameters
    ----------
    package : str
        What cannot be imported.
    extra : str
        The extra of medfusion that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'medfusion[{extra}]'")
        self._given = (package, extra)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), self._given


class MedfusionWarning(UserWarning):
    """Something a user has to be told, though the work goes on; the command line shows it."""
