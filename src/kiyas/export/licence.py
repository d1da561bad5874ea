"""The licence of an exported model: as the user says, or as the base's own card does; never a guess."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from kiyas.data import hub
from kiyas.study.settings import Study, is_hub_id
from kiyas.types import KiyasError

UNKNOWN = "unknown"
"""the Hub's own word for it"""
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True)
class Licence:
    """An identifier of the Hub, and where it is from. `name` and `link` go with the identifier `other`."""

    id: str
    whence: str
    name: str | None = None
    link: str | None = None


def licence_of(study: Study, base: Path, given: str | None) -> Licence:
    """`given`: by the user. Raises KiyasError for something that is not an identifier."""
    if given is not None:
        given = given.lower()
        if not IDENTIFIER.fullmatch(given):
            raise KiyasError(
                f"--license {given!r}: not a licence identifier of the Hub",
                "use apache-2.0, mit or other, for example; all of them: https://huggingface.co/docs/hub/repositories-licenses",
            )
        return Licence(given, "as given with --license")
    card = _card(study, base)
    if card is None:
        return Licence(UNKNOWN, "no model card of the base was found")
    found = _in_card(card)
    return found or Licence(UNKNOWN, "the base's model card does not name one")


def _card(study: Study, base: Path) -> Path | None:
    """The base's README.md: in its folder, or on the Hub."""
    if (base / "README.md").is_file():
        return base / "README.md"
    name = study.model_name_or_path
    if not is_hub_id(name):
        return None
    from huggingface_hub import hf_hub_download

    with contextlib.suppress(KiyasError), hub.told("model", name, study.model_revision, "README.md"):
        return Path(hf_hub_download(name, "README.md", revision=study.model_revision))
    return None


def _in_card(path: Path) -> Licence | None:
    from huggingface_hub import ModelCard

    try:
        data = ModelCard.load(path, ignore_metadata_errors=True).data
    except Exception:  # noqa: BLE001 (a stranger's card that cannot be read names nothing)
        return None
    found = data.license
    if not isinstance(found, str) or not IDENTIFIER.fullmatch(found):
        return None
    name, link = (each if isinstance(each, str) else None for each in (data.license_name, data.license_link))
    return Licence(found, "as the base's model card says", name, link)
