"""What a reader is told when something cannot be used: what it is and what to do, never a traceback or a patient."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from dashboards.language import N_, _
from medfusion.core.errors import DataError, MedfusionError, ModelFolderError, ReviewUnavailable

_LOG = logging.getLogger(__name__)
_SCORES = {
    "no-scores": N_("This folder holds no scores. Start the dashboard with a folder written by medfusion score."),
    "unfinished-scores": N_(
        "No part of these scores is finished yet. Wait for the scoring run, or start it again; then reload this page."
    ),
    "damaged-scores": N_(
        "No part of these scores is whole. Run the command medfusion score again: it makes anew what is damaged."
    ),
    "old-scores": N_(
        "These scores were written by an older version. Score again into another folder, and start with that one."
    ),
}


@contextmanager
def told() -> Iterator[None]:
    """Turn errors into a page; the log learns where they arose, but not their words, which may name a patient."""
    try:
        yield
    except DataError as error:
        code = error.problems[0].code
        _page(_("The scores cannot be shown"), _(_SCORES[code]) if code in _SCORES else _unknown(error), code)
    except ReviewUnavailable:
        said = _(
            "The database of decisions cannot be used now: it is locked, gone, or not to be reached. What was not "
            "confirmed is not recorded. Try again; if this stays, tell whoever runs this dashboard."
        )
        _page(_("Decisions cannot be recorded"), said, "review-unavailable")
    except ModelFolderError as error:
        _LOG.error("%s at %s", type(error).__name__, _place(error))
        said = _(
            "The model folder is damaged, was changed after training, or is of another version. Get the folder again, "
            "or train again; then start the dashboard with it."
        )
        _page(_("The model cannot be used"), said, "model-folder")
    except MedfusionError as error:
        _page(_("This cannot be shown"), _unknown(error), type(error).__name__)
    except Exception as error:
        _page(_("This cannot be shown"), _unknown(error), type(error).__name__)


class Wordless(logging.Filter):
    """Takes the words of errors, which may be about a patient, out of a log; kind and place stay.

    Examples
    --------
    >>> record = logging.makeLogRecord({"exc_info": (ValueError, ValueError("P1 is odd"), None)})
    >>> Wordless().filter(record), record.getMessage()
    (True, 'ValueError at ')
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record, and let it pass."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            record.msg, record.args, record.exc_info = "%s at %s", (type(error).__name__, _place(error)), None
        return True


@st.cache_resource(show_spinner=False)
def quiet() -> None:
    """Keep errors wordless that Streamlit itself logs: of callbacks, and of parts of a page that run by themselves."""
    logging.getLogger("streamlit.error_util").addFilter(Wordless())


def _unknown(error: Exception) -> str:
    _LOG.error("%s at %s", type(error).__name__, _place(error))
    return _("Something went wrong that should not. Reload the page; if it happens again, report the code below.")


def _place(error: BaseException) -> str:
    """Return where an error arose, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{frame.name}:{frame.lineno}" for frame in frames[-4:])


def _page(title: str, said: str, code: str) -> None:
    st.title(title)
    st.error(said, icon=":material/error:")
    st.caption(_("Code: {code}").format(code=code))
    if st.button(_("Try again")):
        st.rerun()
