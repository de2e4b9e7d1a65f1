"""Parameters of a notebook: one rule per parameter, one message for all mistakes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from gainmtl.files import check_output_folder, user_path
from gainmtl.precision import PRECISIONS

_SPELLED = {"true": True, "false": False}
"""papermill's `-p name true` passes the text "true": it parses Python's spelling alone."""
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


class Rule(NamedTuple):
    """The values of one parameter: of `kind`, within [low, high], one of `choices`, or `None`."""

    kind: type
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    optional: bool = False
    many: bool = False
    """A single value or a list of them; `check_parameters` makes it a tuple."""

    def describe(self) -> str:
        """The rule in words, for the message."""
        words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
        text = words.get(self.kind, f"a {self.kind.__name__}")
        if self.choices is not None:
            text = "one of " + ", ".join(repr(choice) for choice in self.choices)
        elif self.low is not None and self.high is not None:
            text += f" from {self.low} to {self.high}"
        elif self.low is not None:
            text += f" of at least {self.low}"
        elif self.high is not None:
            text += f" of at most {self.high}"
        return text + (", or a list of such" if self.many else "") + (" or None" * self.optional)

    def accepts(self, value: Any) -> bool:
        """Whether `value` keeps the rule."""
        if self.many and isinstance(value, list | tuple):
            return bool(value) and all(self._replace(many=False).accepts(item) for item in value)
        if value is None:
            return self.optional
        if self.choices is not None:
            # True == 1 in Python, but "fast = 1" where "on"/"off" is expected is a mistake
            return any(value == c and type(value) is type(c) for c in self.choices)
        allowed = (int, float) if self.kind is float else (self.kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and self.kind is not bool):
            return False
        if isinstance(value, str):
            return value.strip() != ""
        if not isinstance(value, int | float):
            return True
        low, high = self.low, self.high
        return (
            math.isfinite(value)
            and (low is None or value >= low)
            and (high is None or value <= high)
        )


COMMON: dict[str, Rule] = {
    "dataset": Rule(str),
    "data_root": Rule(str, optional=True),
    "image_size": Rule(int, 32, 4096),
    "backbone": Rule(str),
    "weights": Rule(str, optional=True),
    "epochs": Rule(int, 1, 100_000),
    "batch_size": Rule(int, 1, 100_000),
    "learning_rate": Rule(float, 1e-9, 10.0),
    "folds": Rule(int, 1, 1000),
    "seeds": Rule(int, 0, 2**32 - 1, many=True),
    "accelerator": Rule(str, choices=ACCELERATORS),
    "devices": Rule(int, 1, 100_000),
    "precision": Rule(str, choices=PRECISIONS),
    "output_dir": Rule(str),
}
"""The parameters that every notebook has.

`folds` is how many folds are run: 1 runs the data set's own split, or one held-out part where it
has none; N >= 2 runs N-fold cross-validation. `seeds` is one number or a list; one run each.
"""


class Parameters(SimpleNamespace):
    """Checked parameters, read-only, by name: `P.epochs`."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"parameters are read-only after the check; set {name!r} before it")

    def with_values(self, **values: Any) -> Parameters:
        """A copy with other values of these parameters."""
        return Parameters(**{**vars(self), **values})


def as_rule(spec: Any) -> Rule:
    """A `Rule` from a short form: a type, `(type, low, high)`, a list of choices, or a `Rule`."""
    if isinstance(spec, Rule):
        return spec
    if isinstance(spec, type):
        return Rule(spec)
    if isinstance(spec, list) and spec:
        return Rule(type(spec[0]), choices=tuple(spec))
    if isinstance(spec, tuple) and len(spec) == 3 and isinstance(spec[0], type):
        return Rule(*spec)
    raise TypeError(
        f"expected a type, (type, low, high), a list of choices or a Rule, got {spec!r}"
    )


def check_parameters(
    namespace: Mapping[str, Any], notebook: str, extra: Mapping[str, Any] | None = None
) -> Parameters:
    """The notebook's parameters, or one `ValueError` that lists everything wrong with them.

    Call it in the cell after papermill's: `P = runs.check_parameters(globals(), "03_reason",
    extra={"shortcut": (float, 0, 1)})`. papermill only warns of a name that the notebook does not
    have and would run with the default instead, so names without a rule are refused here.

    A leading `~` in a text is replaced by the home folder, which no shell does in `-p name ~/x`.

    Args:
        namespace: the notebook's `globals()`.
        notebook: its name, for messages and for `results.json`.
        extra: rules of the parameters that only this notebook has (see `as_rule`).

    Raises:
        ValueError: an unknown name, a missing one, an impossible value, or an `output_dir` that
            can't be written to.
    """
    rules = COMMON | {name: as_rule(spec) for name, spec in (extra or {}).items()}
    spelled = {
        name: _SPELLED[given.lower()]
        for name, rule in rules.items()
        if rule.kind is bool and isinstance(given := namespace.get(name), str)
        if given.lower() in _SPELLED
    }
    at_home = {
        name: str(user_path(value))
        for name in rules
        if isinstance(value := namespace.get(name), str) and value.startswith("~")
    }
    namespace = {**namespace, **spelled, **at_home}
    problems = []
    for name, value in namespace.items():
        # What papermill injects is plain data; modules, functions and models are the notebook's.
        plain = value is None or isinstance(value, bool | int | float | str | list | tuple | dict)
        if plain and name not in rules and not name.startswith("_") and name not in ("In", "Out"):
            near = difflib.get_close_matches(name, rules, 2, 0.6)
            meant = f"did you mean {' or '.join(near)}?" if near else "it has: " + ", ".join(rules)
            problems.append(f"{name}: this notebook has no such parameter; {meant}")
    for name, rule in rules.items():
        if name not in namespace:
            problems.append(f"{name}: expected {rule.describe()}, found no such variable")
        elif not rule.accepts(namespace[name]):
            problems.append(f"{name}: expected {rule.describe()}, found {namespace[name]!r}")
            if rule.kind is float and isinstance(namespace[name], str):
                problems[-1] += " (a text; in YAML write 1.0e-3, with the dot)"
            if rule.kind is str and isinstance(namespace[name], bool | int | float):
                problems[-1] += (
                    f": papermill's -p reads 01, 1e3 or True as no text; give it with -r {name} "
                    "<text>, or in quotes in YAML"
                )
    if isinstance(folder := namespace.get("output_dir"), str):
        try:
            check_output_folder(folder)
        except OSError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(
            f"the parameters of notebook {notebook} can't be used:\n  "
            + "\n  ".join(problems)
            + "\nSet them in the cell above, or with papermill -p name value."
        )
    values = {name: namespace[name] for name in rules}
    for name in (name for name, rule in rules.items() if rule.many):
        values[name] = (
            tuple(values[name]) if isinstance(values[name], list | tuple) else (values[name],)
        )
    return Parameters(notebook=notebook, **values)


def refuse_together(parameters: Parameters, problems: Sequence[str]) -> None:
    """Raise one `ValueError` that lists the problems of valid parameters that exclude each other.

    Without a problem nothing is raised.
    """
    if problems:
        raise ValueError(
            f"the parameters of notebook {parameters.notebook} don't go together:\n  "
            + "\n  ".join(problems)
        )
