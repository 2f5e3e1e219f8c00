"""Expressions of `actbench check`: text → a tree of numbers and aggregates with one comparison. Python never evaluates them.

Its parser reads the text (``ast.parse`` executes nothing); whatever is not on the short lists here is refused.
"""

from __future__ import annotations

import ast
import contextlib
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from actbench.base.errors import UserError, shown, unknown

LONGEST = 2000  # letters of an expression
DEEPEST = 50  # levels of nested arithmetic
AGGREGATES = ("mean", "median", "min", "max", "std", "count")
TABLES = ("runs", "history", "layers")
FACT_VERDICTS = ("holds", "fails")
VERDICTS = ("supported", "refuted", "mixed", "undecided", *FACT_VERDICTS)
COMPARISONS: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
ARITHMETIC: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
SEVERAL = "give several expressions, of which every one must hold"
EXAMPLE = "an expression is like: mean(test_accuracy, activation=gelu) >= 0.9"
Value = str | int | float | bool | None  # of a filter; None: the setting is empty


@dataclass(frozen=True)
class Number:
    """A finite number."""

    value: float


@dataclass(frozen=True)
class Aggregate:
    """Such as ``old.mean(layers.delta_norm, layer=1)``: a function of a metric's figures in the rows that match.

    Attributes:
        function: one of ``AGGREGATES``.
        table: one of ``TABLES``.
        metric: None for ``count()``, which counts networks.
        where: (column, value) of every filter.
        old: whether it is of the folder that ``--against`` names.
    """

    function: str
    table: str
    metric: str | None
    where: tuple[tuple[str, Value], ...] = ()
    old: bool = False

    def __str__(self) -> str:
        metric = self.metric if self.table == "runs" else f"{self.table}.{self.metric}"
        filters = (f"{column}={written(value)}" for column, value in self.where)
        return f"{'old.' * self.old}{self.function}({', '.join([*([metric] if metric else []), *filters])})"


@dataclass(frozen=True)
class Arithmetic:
    """Two parts joined by ``+ - * /``; a unary minus is its part taken from 0."""

    left: Node
    operator: str
    right: Node


Node = Number | Aggregate | Arithmetic


@dataclass(frozen=True)
class Comparison:
    """Two sides with one of ``< <= > >= == !=`` between them."""

    left: Node
    operator: str
    right: Node


@dataclass(frozen=True)
class ClaimIs:
    """``claim(ID) == VERDICT``, or ``!=``."""

    claim: str
    operator: str
    verdict: str


def written(value: Value) -> str:
    """A filter's value as it stands in an expression."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def parts_of(node: Node) -> list[Aggregate]:
    """The distinct aggregates of a tree, in their order."""

    def walk(node: Node) -> Iterator[Aggregate]:
        if isinstance(node, Aggregate):
            yield node
        elif isinstance(node, Arithmetic):
            yield from walk(node.left)
            yield from walk(node.right)

    return list(dict.fromkeys(walk(node)))


def parse(text: str) -> Comparison | ClaimIs:
    """The tree of an expression.

    Raises:
        UserError: it is empty, too long, too deep or not in the grammar, has not exactly one comparison, or reads no figure.
    """
    text = text.replace("\n", " ").strip()
    body = _body(text)
    if isinstance(body, ast.BoolOp):
        raise UserError(f"'{shown(text)}': and, or are not known here; {SEVERAL}")
    if not isinstance(body, ast.Compare):
        raise UserError(f"'{shown(text)}' compares nothing; {EXAMPLE}")
    if len(body.ops) > 1:
        raise UserError(f"'{shown(text)}' compares more than once; write it as {len(body.ops)} expressions")
    operator = COMPARISONS.get(type(body.ops[0]))
    if operator is None:
        raise UserError(f"'{shown(text)}': this comparison is not known; allowed: {', '.join(COMPARISONS.values())}")
    left, right = body.left, body.comparators[0]
    if _is_claim(left):
        return _claim(left, operator, right, text)
    found = Comparison(_node(left, text), operator, _node(right, text))
    if not parts_of(found.left) and not parts_of(found.right):
        raise UserError(f"'{shown(text)}' reads no figure of the results; {EXAMPLE}")
    return found


def _body(text: str) -> ast.expr:
    """Python's tree of a text."""
    if not text:
        raise UserError(f"an empty expression; {EXAMPLE}")
    if len(text) > LONGEST:
        raise UserError(f"an expression of {len(text):,} letters ('{text[:60]}…'); at most {LONGEST:,} are read")
    bare = re.sub(r"""'[^']*'|"[^"]*\"""", "''", text)  # without what stands in quotes
    strange = next((letter for letter in bare if not (" " <= letter <= "~" or letter in "\n\t")), None)
    strange = strange or next((letter for letter in text if not (letter.isprintable() or letter in "\n\t")), None)
    if strange is not None:  # Python would take ｍean for mean
        letter = f"'{strange}'" if strange.isprintable() else f"U+{ord(strange):04X}"
        raise UserError(f"an expression has the letter {letter}, which is not known here; use plain ones, such as <= and -")
    if "#" in bare:  # after which Python reads nothing
        raise UserError(f"'{shown(text)}': '#' is not known here")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except (RecursionError, MemoryError):
        raise UserError(f"'{shown(text)}' is nested too deeply; at most {DEEPEST} levels are read") from None
    except (SyntaxError, ValueError) as error:  # a ValueError: a letter that cannot be encoded
        if (quoted := _in_quotes(text)) is not None:
            raise UserError(f"'{shown(text)}': a value with such letters needs quotes: {quoted}") from None
        hints = {"%": "fractions are from 0 to 1: write 0.9, not 90%", "&": SEVERAL, "|": f"there is no or; {SEVERAL}",
                 "=<": "write <=", "=>": "write >="}  # fmt: skip
        hint = next((hint for sign, hint in hints.items() if sign in bare), None)
        if hint is None and re.search(r"\)\s*=[^=]", bare):
            hint = "write == to compare"
        if "nested" in str(error):
            hint = f"at most {DEEPEST} levels are read"
        raise UserError(f"'{shown(text)}' is not an expression; {hint or EXAMPLE}") from None


def _in_quotes(text: str) -> str | None:
    """The first filter in a text whose value looks like arithmetic, with its value in quotes: ``dataset='mnist-12k'``."""
    for name, value in re.findall(r"([a-z_]+)\s*=\s*(\w(?:[^\s,()'\"=]|\([^()]*\))*)", text):
        if not value.isidentifier() and not _is_number(value):
            return f"{name}='{shown(value)}'"
    return None


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False


def _node(tree: ast.expr, text: str, depth: int = 1) -> Node:
    """Arithmetic of numbers and aggregates."""
    if depth > DEEPEST:
        raise UserError(f"'{shown(text)}' is nested too deeply; at most {DEEPEST} levels are read")
    match tree:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Number(_finite(value, text))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Arithmetic(Number(0.0), "-", _node(operand, text, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            return Arithmetic(_node(left, text, depth + 1), ARITHMETIC[type(op)], _node(right, text, depth + 1))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="old"), attr=function), args=arguments, keywords=keywords):
            return _aggregate(function, arguments, keywords, text, old=True)
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=keywords):
            if function == "claim":
                raise UserError(f"'{shown(text)}': a claim stands alone on the left: claim(ID) == supported")
            return _aggregate(function, arguments, keywords, text)
        case ast.BoolOp():
            raise UserError(f"'{shown(text)}': and, or are not known here; {SEVERAL}")
        case ast.Name(id=name):
            raise UserError(f"'{shown(text)}': '{shown(name)}' stands alone; it needs an aggregate, such as mean({shown(name)})")
    raise UserError(f"'{_source(tree, text)}' is not allowed; only + - * /, numbers and {', '.join(AGGREGATES)} are")


def _aggregate(function: str, arguments: list[ast.expr], keywords: list[ast.keyword], text: str, old: bool = False) -> Aggregate:
    if function not in AGGREGATES:
        raise unknown("aggregate", function, AGGREGATES, hint="" if old else "also claim(ID) == supported")
    metrics = [_metric(argument, text) for argument in arguments]
    if len(metrics) > 1 or (not metrics and function != "count"):
        raise UserError(f"'{shown(text)}': {function} takes one metric, then filters: {function}(test_accuracy, activation=gelu)")
    table, metric = metrics[0] if metrics else ("runs", None)
    where: dict[str, Value] = {}
    for keyword in keywords:
        if keyword.arg is None:
            raise UserError(f"'{shown(text)}': ** is not allowed; write SETTING=value")
        if keyword.arg in where:
            raise UserError(f"'{shown(text)}': {shown(keyword.arg)} is given twice; a filter takes one value")
        where[keyword.arg] = _value(keyword.arg, keyword.value, text)
    return Aggregate(function, table, metric, tuple(where.items()), old)


def _metric(tree: ast.expr, text: str) -> tuple[str, str]:
    match tree:
        case ast.Name(id=name):
            return "runs", name
        case ast.Attribute(value=ast.Name(id=table), attr=name):
            if table not in TABLES:
                raise unknown("table", table, TABLES)
            return table, name
    raise UserError(f"'{_source(tree, text)}' is not a metric; write test_accuracy, history.NAME or layers.NAME, without quotes")


def _value(name: str, tree: ast.expr, text: str) -> Value:
    """A filter's value."""
    match tree:
        case ast.Name(id=word):
            return {"true": True, "false": False, "null": None}.get(word, word)
        case ast.Constant(value=str() | bool() | None as value):
            return value
        case ast.Constant(value=int() | float() as value):
            _finite(value, text)
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if not isinstance(value, bool):
            _finite(value, text)
            return -value
    quoted = _in_quotes(text) or f"{shown(name)}='…'"
    raise UserError(f"{shown(name)}: '{_source(tree, text)}' is not one value; a name, number or quoted text, such as {quoted}")


def _finite(value: float, text: str) -> float:
    with contextlib.suppress(OverflowError):  # whole numbers beyond floats
        if math.isfinite(float(value)):
            return float(value)
    raise UserError(f"'{shown(text)}' has a number that is too large")


def _source(tree: ast.expr, text: str) -> str:
    return shown(ast.get_source_segment(text, tree) or text)


def _is_claim(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "claim"


def _claim(call: ast.expr, operator: str, verdict: ast.expr, text: str) -> ClaimIs:
    if operator not in ("==", "!="):
        raise UserError(f"'{shown(text)}': a verdict is compared by == or !=")
    assert isinstance(call, ast.Call)
    match call.args, call.keywords:
        case [ast.Name(id=claim) | ast.Constant(value=str() as claim)], []:
            pass
        case _:
            raise UserError(f"'{shown(text)}': claim takes one name of `actbench list claims` (in quotes if it has a dash)")
    match verdict:
        case ast.Name(id=word) | ast.Constant(value=str() as word):
            if word not in VERDICTS:
                raise unknown("verdict", word, VERDICTS)
            return ClaimIs(claim, operator, word)
    raise UserError(f"'{_source(verdict, text)}' is not a verdict; allowed: {', '.join(VERDICTS)}")
