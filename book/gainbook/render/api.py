"""The reference pages of the packages, written from their sources without importing them.

`gainmtl` has an overview, and a page per sub-package with its public, documented names; `gainbook`
has one line per module.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LONGEST_VALUE = 60
"""Characters of a constant or default that is written out; longer ones are elided."""
ROLES = {"module": "mod", "function": "func", "class": "class", "data": "data"}
"""Kind of a name -> the role of Sphinx's Python domain that links to it."""
VERBATIM = re.compile(r"(``.+?``|`[^`]+`|https?://\S+)")
SECTION = re.compile(r"(Args|Returns|Yields|Raises):$")
PARAGRAPHS = re.compile(r"\n\s*\n")


class Item(NamedTuple):
    """A module, or a public, documented name of a module or class."""

    name: str
    """Full, such as `gainmtl.metrics.ranking.aupro`."""
    kind: str
    """The directive of Sphinx's Python domain that describes it."""
    node: ast.Module | ast.stmt
    doc: str


def read_package(folder: Path) -> dict[str, Item]:
    """The modules of the package in `folder`, by full name."""
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        name = name.removesuffix(".__init__")
        tree = ast.parse(path.read_text("utf-8"))
        modules[name] = Item(name, "module", tree, ast.get_docstring(tree) or "")
    return modules


def members(owner: Item) -> Iterator[Item]:
    """What a module or class defines with a docstring and without a leading underscore."""
    assert isinstance(owner.node, ast.Module | ast.ClassDef)
    body, in_class = owner.node.body, owner.kind == "class"
    for node, following in itertools.zip_longest(body, body[1:]):
        match node:
            case ast.ClassDef():
                name, kind, doc = node.name, "class", ast.get_docstring(node)
            case ast.FunctionDef():
                kind = "method" if in_class else "function"
                kind = "property" if "property" in decorators(node) else kind
                name, doc = node.name, ast.get_docstring(node)
            case ast.AnnAssign(target=target) | ast.Assign(targets=[target]):
                name, kind = ast.unparse(target), "attribute" if in_class else "data"
                doc = text_of(following)
            case _:
                continue
        if doc and not name.startswith("_"):
            yield Item(f"{owner.name}.{name}", kind, node, doc)


def text_of(node: ast.stmt | None) -> str | None:
    """The string that a statement consists of: the docstring of the assignment before it."""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
    return None


def decorators(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """The decorators' names without modules and arguments."""
    names = (ast.unparse(item).partition("(")[0] for item in node.decorator_list)
    return {name.rpartition(".")[2] for name in names}


def exports(package: Item, modules: dict[str, Item]) -> dict[str, Item]:
    """What a package re-exports by `from … import x as x`, by its name there."""
    imports = [node for node in ast.walk(package.node) if isinstance(node, ast.ImportFrom)]
    found = {
        alias.name: resolve(f"{node.module}.{alias.name}", modules)
        for node in imports
        for alias in node.names
        if alias.asname == alias.name
    }
    return {name: item for name, item in found.items() if item}


def resolve(name: str, modules: dict[str, Item]) -> Item | None:
    """The module or documented name called `name`, also through the re-exports of a package."""
    if name in modules:
        return modules[name]
    owner = modules.get(name.rpartition(".")[0])
    if owner is None:
        return None
    inside = {item.name: item for item in members(owner)}
    return inside.get(name) or exports(owner, modules).get(name.rpartition(".")[2])


def escape(text: str) -> str:
    """Plain text as one line of Markdown; names in backticks and addresses stay."""
    parts = VERBATIM.split(" ".join(text.split()))
    parts[::2] = [re.sub(r"([\\*_\[\]<>${}|#~&!^])", r"\\\1", part) for part in parts[::2]]
    return re.sub(r"^(\d*)([-+=.)] )", r"\1\\\2", "".join(parts))  # would begin a list


def summary(item: Item) -> str:
    """The first paragraph of a docstring as Markdown for a cell of a table."""
    return re.sub(r"(?<!\\)\|", r"\|", escape(PARAGRAPHS.split(item.doc.strip())[0]))


def describe(doc: str) -> str:
    """A docstring as Markdown: its paragraphs, lists, indented blocks and Google sections."""
    blocks = []
    for paragraph in PARAGRAPHS.split(doc.strip("\n")):
        first, _, rest = paragraph.partition("\n")
        if section := SECTION.match(first):
            entries = re.split(r"\n(?= {4}\S)", rest)
            blocks.append(f"*{section[1]}:*\n\n" + "\n".join(map(entry, entries)))
        elif paragraph.startswith("    "):
            blocks.append(f"```text\n{textwrap.dedent(paragraph)}\n```")
        elif paragraph.startswith("- "):
            items = re.split(r"\n(?=- )", paragraph)
            blocks.append("\n".join(f"- {escape(item[2:])}" for item in items))
        else:
            blocks.append(escape(paragraph))
    return "\n\n".join(blocks)


def entry(text: str) -> str:
    """An entry of a Google section: `names: text`, or text alone."""
    names, colon, rest = text.strip().partition(": ")
    if not (colon and re.fullmatch(r"[\w*., ]+", names)):
        return f"- {escape(text)}"
    return f"- **{escape(names)}**: {escape(rest)}"


def value(node: ast.expr) -> str:
    """The source of a constant or default, if it is short."""
    text = ast.unparse(node)
    return text if len(text) <= LONGEST_VALUE else "..."


def signature(node: ast.Module | ast.stmt) -> str:
    """Arguments and result of a function, arguments of a class; nothing for the rest."""
    if isinstance(node, ast.FunctionDef):
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        arguments = ast.unparse(node.args)
        return "(" + re.sub(r"^(self|cls)(, |$)", "", arguments) + ")" + result
    if not isinstance(node, ast.ClassDef):
        return ""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return signature(item).removesuffix(" -> None")
    if "dataclass" in decorators(node) or "NamedTuple" in map(ast.unparse, node.bases):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        return "(" + ", ".join(map(field, fields)) + ")"
    return ""


def field(node: ast.AnnAssign) -> str:
    """A field of a NamedTuple or data class as an argument."""
    default = f" = {value(node.value)}" if node.value else ""
    return f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}{default}"


def options(item: Item) -> Iterator[str]:
    """Options of the directive: type and value of a constant, the kind of a method."""
    match item.node:
        case ast.AnnAssign(annotation=annotation):
            yield f":type: {ast.unparse(annotation)}"
        case ast.FunctionDef(returns=ast.expr() as result) if item.kind == "property":
            yield f":type: {ast.unparse(result)}"
        case ast.FunctionDef():
            kinds = {"staticmethod", "classmethod"} & decorators(item.node)
            yield from (f":{kind}:" for kind in kinds)
    match item.node:
        case ast.AnnAssign(value=ast.expr() as node) | ast.Assign(value=node):
            yield f":value: {value(node)}"


def directive(item: Item, colons: int = 4) -> str:
    """A name as a directive of Sphinx's Python domain, a class with its members."""
    fence, name = ":" * colons, item.name.rpartition(".")[2]
    arguments = "" if item.kind == "property" else signature(item.node)
    lines = [f"{fence}{{py:{item.kind}}} {name}{arguments}", *options(item)]
    lines += ["", describe(item.doc), ""]
    if item.kind == "class":
        lines += [directive(inner, colons - 1) for inner in members(item)]
    return "\n".join([*lines, fence])


def target(module: Item) -> str:
    """What links to a module lead to."""
    return f"```{{py:module}} {module.name}\n```"


def table(package: Item, modules: dict[str, Item]) -> str:
    """The names that a package re-exports, with links."""
    rows = ["| name | what it is |", "|---|---|"]
    for name, item in exports(package, modules).items():
        link = f"{{py:{ROLES[item.kind]}}}`{name} <{item.name}>`"
        rows.append(f"| {link} | {summary(item)} |")
    return "\n".join(rows) if len(rows) > 2 else ""


def package_page(package: Item, inside: list[Item], modules: dict[str, Item]) -> str:
    """The page of a package: its docstring, the names it re-exports, and its modules."""
    parts = [f"# {escape(package.name)}", describe(package.doc), table(package, modules)]
    for module in inside:
        if module is package:
            parts.append(target(module))
        else:
            parts += [f"## {escape(module.name)}", target(module), describe(module.doc)]
        parts += [directive(item) for item in members(module)]
    return "\n\n".join(filter(None, parts)) + "\n"


def overview(core: dict[str, Item], packages: list[str], book: dict[str, Item]) -> str:
    """The first page: public names, sub-packages, and the modules of the book's package."""
    parts = ["# The package", "Written from the docstrings. `gainmtl` has these names:"]
    parts += [table(core["gainmtl"], core), "## Sub-packages"]
    parts.append("\n".join(f"- [](api/{name}.md): {summary(core[name])}" for name in packages))
    parts += ["## The book's package", describe(book["gainbook"].doc)]
    for module in book.values():
        if module.doc:
            parts += [target(module), f"`{module.name}`\n: {summary(module)}"]
    return "\n\n".join(parts) + "\n"


def api_pages(root: Path) -> dict[str, str]:
    """Path below `book` -> Markdown: `api.md`, and `api/<package>.md` for each package."""
    core, book = read_package(root / "gainmtl"), read_package(root / "book" / "gainbook")
    groups: dict[str, list[Item]] = {}
    for name, module in core.items():
        package = ".".join(name.split(".")[:2])
        is_package = any(other.startswith(f"{package}.") for other in core)
        groups.setdefault(package if is_package else "gainmtl", []).append(module)
    pages = {f"api/{name}.md": package_page(core[name], groups[name], core) for name in groups}
    return {"api.md": overview(core, list(groups), book), **pages}
