"""Data sets by name; the rest of the harness knows them through this face alone.

``published`` says which public sets there are, ``copies`` finds and verifies their files,
``embedded`` needs none, ``planted`` draws series with known boundaries, ``custom`` reads what a
:class:`Source` describes, ``panels`` reads files of many series. None of them uses the network:
``download`` does.
"""

from harness.core.source import Source
from harness.data.panels import Channel, load_panel, read_panel
from harness.data.planted import FAMILIES as PLANTED_FAMILIES
from harness.data.planted import HORIZON as PLANTED_HORIZON
from harness.data.planted import LOOK_BACK as PLANTED_LOOK_BACK
from harness.data.planted import WINDOW as PLANTED_WINDOW
from harness.data.planted import Family as PlantedFamily
from harness.data.planted import family_of as planted_family
from harness.data.planted import names as planted_names
from harness.data.planted import plant
from harness.data.published import CATALOGUE, TEST_WINDOWS, Entry
from harness.data.series import Series
from harness.data.sets import (
    entry,
    explain_missing,
    fetch,
    file_of,
    known,
    load,
    missing,
    pinned,
    season,
    user_cache,
)

__all__ = [
    "CATALOGUE",
    "PLANTED_FAMILIES",
    "PLANTED_HORIZON",
    "PLANTED_LOOK_BACK",
    "PLANTED_WINDOW",
    "TEST_WINDOWS",
    "Channel",
    "Entry",
    "PlantedFamily",
    "Series",
    "Source",
    "entry",
    "explain_missing",
    "fetch",
    "file_of",
    "known",
    "load",
    "load_panel",
    "missing",
    "pinned",
    "plant",
    "planted_family",
    "planted_names",
    "read_panel",
    "season",
    "user_cache",
]
