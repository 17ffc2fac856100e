"""Pages from templates: each is one file that holds all it shows.

A page asks the network for nothing, which its own content policy enforces.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.report import browsing, formats

_TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, scripts: Sequence[str], *, suite: str, **variables: object) -> str:
    """The template of a suite's page with these variables, and with what all pages have.

    That is their style, their scripts with a policy, and the suite's addresses in MLflow.
    """
    script = "".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in scripts)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    # What formats makes of marked text is escaped already.
    environment.filters["marked"] = lambda text: Markup(formats.html_text(text))  # noqa: S704 - `html_text` has escaped it
    environment.filters["block"] = lambda block: Markup(formats.html_block(block))  # noqa: S704 - and so has this
    return environment.get_template(template).render(
        style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=script,
        policy=_policy(script),
        suite=suite,
        mlflow={
            name: browsing.short(browsing.LOCAL, suite, view=name)
            for name in (browsing.RUNS, browsing.CURVES)
        },
        **variables,
    )


def _policy(script: str) -> str:
    """Nothing from outside, and of all scripts only the page's own."""
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
