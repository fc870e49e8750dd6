"""Reads the Bicep files by their grammar. It is no compiler: types and API versions are not checked."""

import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
EXTENSION = re.compile(r"^extension (\w+)$", re.MULTILINE)


class SyntaxProblem(Exception):
    """The file is not Bicep."""


def text_of(node: Node) -> str:
    return (node.text or b"").decode()


def descendants(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from descendants(child)


def value_of(node: Node) -> Any:
    """Convert literals; a string keeps its `${…}`, and any other expression is its own source."""
    match node.type:
        case "string":
            return text_of(node)[1:-1]
        case "number":
            return int(text_of(node))
        case "boolean":
            return text_of(node) == "true"
        case "array":
            return [value_of(child) for child in node.named_children if child.type != "comment"]
        case "object":
            return properties_of(node)
        case "parenthesized_expression" | "for_statement" | "if_statement":
            return value_of(node.named_children[-1])
    return text_of(node)


def properties_of(node: Node) -> dict[str, Any]:
    pairs = (child.named_children for child in node.named_children if child.type == "object_property")
    return {text_of(name).strip("'"): value_of(value) for name, value in pairs}


class Template:
    """One file, by its declarations. Raises SyntaxProblem."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = path.read_text(encoding="utf-8")
        self.extensions = EXTENSION.findall(self.source)
        # The grammar is older than this statement.
        source = EXTENSION.sub("", self.source)
        self.root = Parser(Language(tree_sitter_bicep.language())).parse(source.encode()).root_node
        for node in descendants(self.root):
            if node.is_error or node.is_missing:
                raise SyntaxProblem(f"{path.name}:{node.start_point.row + 1}: {text_of(node)}")

    def _declared(self, kind: str) -> dict[str, Node]:
        nodes = (node for node in self.root.named_children if node.type == f"{kind}_declaration")
        return {text_of(node.named_children[0]): node for node in nodes}

    @cached_property
    def parameters(self) -> dict[str, bool]:
        """The names, and whether each has a default."""
        return {name: len(node.named_children) > 2 for name, node in self._declared("parameter").items()}

    @cached_property
    def outputs(self) -> dict[str, str]:
        return {name: text_of(node.named_children[-1]) for name, node in self._declared("output").items()}

    @cached_property
    def variables(self) -> dict[str, Any]:
        return {name: value_of(node.named_children[-1]) for name, node in self._declared("variable").items()}

    @cached_property
    def modules(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The path and the properties of each."""
        return {name: self._body(node) for name, node in self._declared("module").items()}

    @cached_property
    def resources(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The type with its version, and the properties of each."""
        return {name: self._body(node) for name, node in self._declared("resource").items()}

    @staticmethod
    def _body(node: Node) -> tuple[str, dict[str, Any]]:
        return value_of(node.named_children[1]), value_of(node.named_children[-1])

    @property
    def names(self) -> set[str]:
        kinds = ("parameter", "variable", "module", "resource")
        loops = (node for node in descendants(self.root) if node.type == "for_statement")
        return {name for kind in kinds for name in self._declared(kind)} | {
            text_of(node.named_children[0]) for node in loops
        }

    @property
    def used(self) -> set[str]:
        """Every name that an expression reads, and not those of functions."""
        return {
            text_of(node)
            for node in descendants(self.root)
            if node.type == "identifier" and node.parent and _is_read(node, node.parent)
        }

    def objects_with(self, name: str) -> list[dict[str, Any]]:
        """Every object, however deep, that has a property of this name."""
        objects = (node for node in descendants(self.root) if node.type == "object")
        return [found for node in objects if name in (found := properties_of(node))]


def _is_read(node: Node, parent: Node) -> bool:
    is_first = parent.named_children[0] == node
    if parent.type == "for_statement" or parent.type.endswith("_declaration"):
        return not is_first
    return parent.type != "call_expression" and not (parent.type == "object_property" and is_first)


@cache
def template(name: str) -> Template:
    return Template(INFRA / name)


NAMES = sorted(path.name for path in INFRA.glob("*.bicep"))
