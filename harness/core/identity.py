"""What code does, as a hash: the part of a result's identity that is not in its job.

Comments, docstrings, layout and the imports of our own modules change nothing, so that a file may
be moved or reformatted; an edit of what it computes does.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import packages_distributions
from importlib.util import find_spec, resolve_name
from pathlib import Path

HOUSE = frozenset({"harness", "methods"})
"""The top-level packages of this project."""


def source_hash(module: str, path: Path) -> str:
    """Sha256 of the code of a method: its file, and all modules of its own that it imports.

    Its own are those of the same top-level package, and of the distribution that this one was
    installed from; what these import counts in turn, wherever in the code the import stands. Of
    other packages only the names that are imported from them count; the harness and the standard
    library are left out. A module that is imported by a computed name is not seen.

    Raises:
        ValueError: a file that cannot be parsed; names it.
    """
    own = _own_packages(module.partition(".")[0])
    found, waiting = {module: path}, [module]
    while waiting:
        name = waiting.pop()
        for imported in _imported(name, found[name], own):
            if imported not in found and (place := _file_of(imported)) is not None:
                found[imported] = place
                waiting.append(imported)
    beside = {_digest(place, own) for name, place in found.items() if name != module}
    # In the order of the digests and without empty files: names and folders are layout, too.
    return _hash("\n".join([_digest(path, own), *sorted(beside - {_hash("")})]))


def folder_hash(folders: Iterable[Path]) -> str:
    """Sha256 of all modules in the folders (or of single files), whatever they are called."""
    paths = [path for folder in folders for path in _modules(folder)]
    return _hash("\n".join(sorted(_digest(path, HOUSE) for path in paths)))


def import_hash(path: str) -> str:
    """Of what is at an import path, "package.module:Class".

    Of a module of this project its file alone, of others as :func:`source_hash`.

    Raises:
        ValueError: there is no such module.
    """
    module = path.partition(":")[0]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ValueError(f"{path}: there is no module {module!r}")
    file = Path(spec.origin)
    return folder_hash([file]) if module.partition(".")[0] in HOUSE else source_hash(module, file)


def _modules(folder: Path) -> list[Path]:
    return [folder] if folder.is_file() else list(folder.rglob("*.py"))


def _own_packages(top: str) -> frozenset[str]:
    """The top-level packages that come from where this one comes from."""
    if top in HOUSE:
        return frozenset({top})
    places = packages_distributions()
    sources = set(places.get(top, ()))
    return frozenset({top, *(name for name, others in places.items() if sources & set(others))})


# --- one file ------------------------------------------------------------------------------------


def _digest(path: Path, own: frozenset[str]) -> str:
    return _hash(_bare(path.read_text(encoding="utf-8"), str(path), own))


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@cache
def _bare(text: str, path: str, own: frozenset[str]) -> str:
    """The code alone, after the names that it imports from elsewhere, in order."""
    tree, names = _parsed(text, path), set()
    for node in ast.walk(tree):
        for name, alias in _bindings(node):
            if name.partition(".")[0] not in own | HOUSE | sys.stdlib_module_names:
                names.add(f"{name} as {alias}")
    # As text again and not as a dump of the tree, whose form differs from one Python to the next.
    return "\n".join([*sorted(names), ast.unparse(_Bare().visit(tree))]).strip()


def _parsed(text: str, path: str) -> ast.Module:
    try:
        return ast.parse(text, path)
    except SyntaxError as error:
        raise ValueError(f"{path} cannot be parsed: line {error.lineno}: {error.msg}") from error


def _bindings(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The dotted names that an import binds, and what to; relative ones are the package's own."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, alias.asname or alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = ((alias.name, alias.asname or alias.name) for alias in node.names)
        yield from ((f"{node.module}.{name}", alias) for name, alias in names)


class _Bare(ast.NodeTransformer):
    """Drops imports, and docstrings: expressions that are nothing but a string."""

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if body == [] and not isinstance(node, ast.Module):
            body.append(ast.Pass())
        return node


# --- what it imports -----------------------------------------------------------------------------


def _imported(module: str, path: Path, own: frozenset[str]) -> Iterator[str]:
    """The modules of its own that a file imports, with the packages they lie in."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for name in _candidates(path.read_text(encoding="utf-8"), str(path), package):
        parts = name.split(".")
        if parts[0] in own:
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


@cache
def _candidates(text: str, path: str, package: str) -> frozenset[str]:
    """Names of what may be modules: of ``from a import b`` both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(_parsed(text, path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # more dots than packages: it cannot be loaded either
                module = resolve_name("." * node.level + (node.module or ""), package)
                names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def _file_of(module: str) -> Path | None:
    """The source of a module; None for what is no module, or has no source.

    Looked up as Python does, but without importing a package to find what is in it.
    """
    top, *parts = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:
        return None  # loaded in a way that left no trace of where from
    if spec is None:
        return None
    place = Path(spec.origin) if spec.origin else None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for part in parts:
        inside = [folder / part for folder in folders]
        files = [folder / "__init__.py" for folder in inside]
        files += [folder.with_name(f"{part}.py") for folder in inside]
        place = next(filter(Path.is_file, files), None)
        folders = [folder for folder in inside if folder.is_dir()]
        if place is None and not folders:
            return None
    return place if place is not None and place.suffix == ".py" else None
