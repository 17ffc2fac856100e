"""Data sets by name; the rest of the harness knows them through this face alone.

``published`` says which public sets there are, ``copies`` finds and verifies their files,
``embedded`` needs none, ``planted`` draws series with known boundaries, ``labelled`` reads real
ones that people labelled, ``custom`` what a :class:`Source` describes, ``panels`` files of many
series; ``corpora`` and ``sampling`` are for pre-training and ``leakage`` keeps targets out of it.
None of them uses the network: ``download`` does.
"""

from harness.core.source import Source
from harness.data.corpora import (
    Corpus,
    Pool,
    corpus_names,
    find_corpus,
    load_corpus,
    load_member,
    read_corpus,
)
from harness.data.leakage import Match, Tag, matches, relation, tag
from harness.data.panels import Channel, find_panel, load_panel, read_panel
from harness.data.planted import FAMILIES as PLANTED_FAMILIES
from harness.data.planted import HORIZON as PLANTED_HORIZON
from harness.data.planted import LOOK_BACK as PLANTED_LOOK_BACK
from harness.data.planted import WINDOW as PLANTED_WINDOW
from harness.data.planted import Family as PlantedFamily
from harness.data.planted import family_of as planted_family
from harness.data.planted import names as planted_names
from harness.data.planted import plant
from harness.data.published import CATALOGUE, TEST_WINDOWS, Entry
from harness.data.rates import spacing
from harness.data.sampling import HORIZON as ROW_HORIZON
from harness.data.sampling import LONGEST as ROW_PAST
from harness.data.sampling import Part, Sample, Sampler
from harness.data.series import Outline, Series, filled, is_constant, rounding
from harness.data.sets import (
    entry,
    explain_missing,
    fetch_each,
    file_of,
    known,
    labelled_files,
    load,
    missing,
    outline,
    pinned,
    season,
    sizes,
    user_cache,
)

__all__ = [
    "CATALOGUE",
    "PLANTED_FAMILIES",
    "PLANTED_HORIZON",
    "PLANTED_LOOK_BACK",
    "PLANTED_WINDOW",
    "ROW_HORIZON",
    "ROW_PAST",
    "TEST_WINDOWS",
    "Channel",
    "Corpus",
    "Entry",
    "Match",
    "Outline",
    "Part",
    "PlantedFamily",
    "Pool",
    "Sample",
    "Sampler",
    "Series",
    "Source",
    "Tag",
    "corpus_names",
    "entry",
    "explain_missing",
    "fetch_each",
    "file_of",
    "filled",
    "find_corpus",
    "find_panel",
    "is_constant",
    "known",
    "labelled_files",
    "load",
    "load_corpus",
    "load_member",
    "load_panel",
    "matches",
    "missing",
    "outline",
    "pinned",
    "plant",
    "planted_family",
    "planted_names",
    "read_corpus",
    "read_panel",
    "relation",
    "rounding",
    "season",
    "sizes",
    "spacing",
    "tag",
    "user_cache",
]
