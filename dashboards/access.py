"""Who may come in, and as what."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from enum import StrEnum

from dashboards.settings import Settings


class Role(StrEnum):
    """What a reader may do: review patients, look through the audit trail, or both and everything else."""

    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Reader:
    """A person who looks.

    Attributes
    ----------
    name : str
        As the identity provider knows them; the name on this machine where nobody signs in.
    roles : frozenset of Role

    Examples
    --------
    >>> Reader("dr.kim", frozenset({Role.ADMIN})).may(Role.REVIEWER)
    True
    """

    name: str
    roles: frozenset[Role]

    def may(self, role: Role) -> bool:
        """Say whether the reader has a role; an administrator has all."""
        return role in self.roles or Role.ADMIN in self.roles


def local_reader() -> Reader:
    """Return the user of this machine, who may do everything."""
    return Reader(getpass.getuser(), frozenset(Role))


def reader(settings: Settings) -> Reader:
    """Return who looks."""
    return local_reader()
