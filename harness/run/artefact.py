"""What pre-training leaves: a folder with weights and a card, refused where either was changed.

``weights.safetensors`` holds the weights, and no code; ``card.json`` says what they are of. The
hash of an artefact is that of both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from harness.core.files import put_folder, write_bytes
from harness.core.schema import STRICT, MistakeError, from_json
from harness.core.task import Architecture
from harness.model import registry
from harness.model.patcher import RULES, Patcher, Rule
from harness.model.quantiles import QuantileForecaster

WEIGHTS, CARD = "weights.safetensors", "card.json"


@dataclass(frozen=True)
class ArtefactCard:
    """What an artefact is: enough to build its forecaster, and to know what it was fed.

    ``method_source`` is the hash of the method's code, ``corpus_hash`` that of its values,
    ``families`` are the sources of these values and ``licences`` theirs. ``weights_hash`` is of
    the weights file. ``rule`` is the evaluation rule that was chosen with the weights.
    """

    __pydantic_config__ = STRICT

    method: str
    method_source: str
    hyperparameters: dict[str, Any]
    architecture: Architecture
    look_back: int
    patches: int
    horizon: int
    corpus: str
    corpus_hash: str
    families: list[str]
    licences: list[str]
    seed: int
    steps: int
    rows: int
    valid_loss: float
    rule: str
    weights_hash: str
    versions: str = ""
    commit: str = ""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule is {self.rule!r}; allowed: {', '.join(RULES)}")


def write(model: QuantileForecaster, place: Path, **told: Any) -> str:  # noqa: ANN401 - the fields of a card
    """Leave an artefact in the folder ``place``, whole or not at all; its hash.

    ``told`` are the fields of its card that the model does not know.
    """
    weights = save({name: value.contiguous() for name, value in _plain(model).items()})
    task = model.task
    card = ArtefactCard(
        hyperparameters=model.hyperparameters,
        method_source=registry.source_hash(model.method),
        look_back=task.look_back,
        patches=task.patches,
        horizon=task.horizon,
        rule=model.patcher.evaluation_rule,
        weights_hash=sha256(weights).hexdigest(),
        **told,
    )
    scratch = place.with_name(f".{place.name}.new")
    write_bytes(scratch / WEIGHTS, weights)
    text = json.dumps(_table(card), indent=1, sort_keys=True)
    write_bytes(scratch / CARD, text.encode())
    put_folder(scratch, place)
    return hash_of(place)


def hash_of(place: Path) -> str:
    """The identity of an artefact: of its card, which holds the hash of its weights.

    Raises:
        FileNotFoundError: no artefact is there.
    """
    if not (place / CARD).is_file():
        raise FileNotFoundError(f"no artefact in {place}: {CARD} is missing")
    return sha256((place / CARD).read_bytes()).hexdigest()[:16]


def read_card(place: Path) -> ArtefactCard:
    """The card of an artefact.

    Raises:
        FileNotFoundError: no artefact is there.
        ValueError: a card that was damaged; names it.
    """
    hash_of(place)
    try:
        return from_json(ArtefactCard, (place / CARD).read_text(encoding="utf-8"))
    except (MistakeError, UnicodeDecodeError) as error:
        raise ValueError(f"{place / CARD}: {error}") from error


def read(
    place: Path, *, expected: str | None = None, methods: Path = registry.METHODS
) -> QuantileForecaster:
    """The forecaster of an artefact, ready to forecast; no code in the folder is run.

    Raises:
        FileNotFoundError: no artefact, or no weights, are there.
        ValueError: another artefact than ``expected``, weights that were changed, or a method
            whose code is another one now; names the folder.
    """
    if expected is not None and (found := hash_of(place)) != expected:
        raise ValueError(f"{place} holds artefact {found}, not {expected}")
    card = read_card(place)
    method = registry.find(card.method, methods)
    if not issubclass(method, Patcher):
        raise ValueError(f"{place}: {card.method} is no patcher")  # noqa: TRY004 - what a file can cause
    if registry.source_hash(method) != card.method_source:
        raise ValueError(
            f"{place} was made by other code of {card.method}: pre-train it again, or go back to"
            f" commit {card.commit or 'of that time'}"
        )
    if not (place / WEIGHTS).is_file():
        raise FileNotFoundError(f"{place} has no {WEIGHTS}")
    content = (place / WEIGHTS).read_bytes()
    if sha256(content).hexdigest() != card.weights_hash:
        raise ValueError(f"{place / WEIGHTS} is not what its card says: it was changed or cut off")
    model = QuantileForecaster(
        method,
        card.architecture,
        look_back=card.look_back,
        patches=card.patches,
        horizon=card.horizon,
        hyperparameters=card.hyperparameters,
    )
    try:
        missing, strange = model.load_state_dict(load(content), strict=False)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{place / WEIGHTS} does not fit {card.method}: {error}") from error
    if strange or any("_extra_state" not in name for name in missing):
        raise ValueError(f"{place / WEIGHTS} does not fit {card.method}: {missing or strange}")
    rule: Rule = card.rule  # type: ignore[assignment]  # the card was checked
    model.patcher.evaluation_rule = rule
    return model.eval()


def _plain(model: QuantileForecaster) -> dict[str, torch.Tensor]:
    """The weights; the evaluation rule among them is told by the card."""
    state = model.state_dict()
    return {name: value for name, value in state.items() if not name.endswith("_extra_state")}


def _table(card: ArtefactCard) -> dict[str, Any]:
    return {**vars(card), "architecture": vars(card.architecture)}
