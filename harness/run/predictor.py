"""A pre-trained forecaster as a predictor of gluonts, which its tools can ask and store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data import filled, spacing
from harness.model.contract import watching
from harness.model.quantiles import LEVELS, QuantileForecaster
from harness.run.artefact import hash_of, read
from harness.zero_shot.predictors import Entry, Forecast, QuantileForecast, RepresentablePredictor

MOST_ROLLS = 12
"""Forecasts of a longer horizon go on from their own median at most so often."""

AT_ONCE = 256  # series in one pass


class PatchPredictor(RepresentablePredictor):  # type: ignore[misc]  # gluonts has no types
    """Forecasts of the artefact in a folder, at nine quantiles.

    A past longer than the artefact's look-back is cut to its last steps, a shorter one to whole
    patches; a gap has the value before it. ``artefact_hash`` is that of the folder when the
    predictor was made, and refused are others when it is loaded.

    Raises:
        FileNotFoundError: no artefact is there.
        ValueError: another artefact, or a horizon that would need too many rolls.
    """

    def __init__(
        self, artefact: str, prediction_length: int, artefact_hash: str | None = None
    ) -> None:
        super().__init__(prediction_length=prediction_length)
        self.artefact = artefact
        self.artefact_hash = artefact_hash or hash_of(Path(artefact))
        furthest = MOST_ROLLS * self.model.task.horizon
        if prediction_length > furthest:
            raise ValueError(
                f"a horizon of {prediction_length} steps; {artefact} forecasts at most {furthest}"
            )

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), {
            "artefact": self.artefact,
            "prediction_length": self.prediction_length,
            "artefact_hash": self.artefact_hash,
        }

    @cached_property
    def model(self) -> QuantileForecaster:
        """The forecaster, loaded once."""
        return read(Path(self.artefact), expected=self.artefact_hash)

    def predict(self, dataset: Iterable[Entry], **_: Any) -> Iterator[Forecast]:  # noqa: ANN401 - what gluonts' tools pass on
        """One forecast a series, in their order."""
        series = iter(dataset)
        while part := list(islice(series, AT_ONCE)):
            pasts = [np.asarray(entry["target"]) for entry in part]
            values = self.quantiles(pasts, [spacing(entry["start"].freq) for entry in part])
            for entry, forecast in zip(part, values, strict=True):
                yield QuantileForecast(
                    forecast_arrays=forecast,
                    forecast_keys=[str(level) for level in LEVELS],
                    start_date=entry["start"] + len(entry["target"]),
                    item_id=entry.get("item_id"),
                )

    def quantiles(
        self, pasts: list[NDArray[np.float32]], spacings: Sequence[float] | None = None
    ) -> NDArray[np.float64]:
        """Forecasts [series, level, step], in the units of each series.

        ``spacings`` are in seconds from step to step, 0 where that is not known.

        Raises:
            ContractError: patches that break the contract.
        """
        contexts = [self._context(past) for past in pasts]
        ahead = np.empty((len(pasts), len(LEVELS), self.prediction_length))
        lengths = np.array([len(context) for context in contexts])
        seconds = np.asarray(spacings or [0.0] * len(pasts), dtype=np.float32)
        with watching(self.model, "on pasts to forecast from"):
            for length in np.unique(lengths):
                index = np.flatnonzero(lengths == length)
                stacked = np.stack([contexts[number] for number in index])
                ahead[index] = self._rolled(stacked, seconds[index])
        return ahead

    @torch.inference_mode()
    def cuts(self, past: NDArray[np.float32], seconds: float) -> tuple[int, list[int]]:
        """Of how many steps the context of a past is, and at which of them patches start."""
        context = self._context(past)
        rows = torch.from_numpy(context[None])
        spacing = torch.tensor([seconds], dtype=torch.float32)
        patches = self.model(rows, torch.arange(1), spacing=spacing).patches
        return len(context), patches.start[0, patches.valid[0]].tolist()

    def _context(self, past: NDArray[np.float32]) -> NDArray[np.float64]:
        """The last whole patches of what is known of a past; of less than two, all of it."""
        whole = filled(past.astype(np.float64))
        whole = whole[~np.isnan(whole)][-self.model.task.look_back :]
        size = self.model.task.look_back // self.model.task.patches
        if len(whole) >= 2 * size:
            return whole[len(whole) % size :]
        # Two steps are the least that can be cut in two.
        return np.pad(whole, (max(0, 2 - len(whole)), 0), "edge")

    @torch.inference_mode()
    def _rolled(
        self, past: NDArray[np.float64], seconds: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Forecasts of pasts of one length, each block going on from the median of the last."""
        size, most = (
            self.model.task.look_back // self.model.task.patches,
            self.model.task.look_back,
        )
        blocks: list[NDArray[np.float64]] = []
        while sum(block.shape[2] for block in blocks) < self.prediction_length:
            rows, ids = torch.from_numpy(past), torch.arange(len(past))
            forecast = self.model(rows, ids, spacing=torch.from_numpy(seconds))
            blocks.append(block := forecast.original.numpy())
            past = np.concatenate([past, block[:, LEVELS.index(0.5)]], axis=1)[:, -most:]
            if past.shape[1] >= 2 * size:
                past = past[:, past.shape[1] % size :]
        return np.concatenate(blocks, axis=2)[..., : self.prediction_length]
