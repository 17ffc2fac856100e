"""Questions to a method that has to be loaded for it; each answer is JSON.

:class:`harness.model.declared.Declarations` asks them, as a rule in a process of their own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch

from harness.core.job import Job
from harness.model import registry
from harness.model.heads import HEADS
from harness.model.patcher import Patcher


def declaration(name: str, folder: Path) -> str:
    """What the method declares.

    Raises:
        ValueError: it cannot be loaded.
    """
    return json.dumps(asdict(registry.declaration(registry.find(name, folder))))


def misfit(name: str, folder: Path, job: Job) -> str:
    """Why the head cannot use as many patches as the method has, or an empty text.

    A number of patches of the method's own must suit the head as any K of a task must.
    """
    method, task, architecture = registry.find(name, folder), job.task, job.architecture
    assert issubclass(method, Patcher)
    try:
        with torch.device("meta"):  # sizes without numbers
            slots = method(task, **dict(job.hyperparameters)).slots
            HEADS[architecture.head](replace(task, patches=slots), architecture, slots)
    except ValueError as error:
        return json.dumps(str(error))
    return json.dumps("")


def learns(name: str, folder: Path, job: Job) -> str:
    """Whether training changes anything: :func:`harness.model.registry.learns`.

    Raises:
        ValueError: the method cannot be built.
    """
    return json.dumps(registry.learns(registry.find(name, folder), job))
