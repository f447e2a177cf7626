"""An error as one line, in words that say what to do."""

import errno
import re

from zoo.escaping import printable

PLAIN = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
    "collections.abc.Sequence": "a list",
    "collections.abc.Mapping": "a mapping of names to values",
    "collections.abc.Callable": "a function",
}
"""Types in plain words."""
UNHELPFUL = ("Expected a <class", "Expected a path", "Does not validate", "Expected a typing.Literal")
FULL = (errno.ENOSPC, errno.EDQUOT)


def one_line(error: BaseException) -> str:
    """Returns the message of an error in one line, without the ways in which libraries wrap it."""
    if "No space left on device" in str(error) or (isinstance(error, OSError) and error.errno in FULL):
        file = getattr(error, "filename", None)
        where = "" if file is None else f" {file} was not written."
        return printable(f"No space left on device: the disk is full.{where} Free some space, or choose another place.")
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror if error.filename is None else printable(f"{error.filename}: {error.strerror}")
    if isinstance(error, MemoryError):
        return "The memory does not suffice. Ask for fewer or smaller things at once."
    message = str(error)
    if type(error) is KeyError:
        message = f"The key {message} is missing: a fault of the program or of a file. --debug shows where."
    return printable(" ".join(_unwrapped(message).split())) or type(error).__name__


def _unwrapped(message: str) -> str:
    """Returns the reason in a message of jsonargparse, which wraps that of a method or datamodule."""
    whole, argument = message, re.match(r'Parser key "([\w.]+)":', message)
    if "Union subtypes" in message or "Literal[" in message:
        reasons = re.findall(r"^\s*- (.*(?:\n(?!\s*- ).*)*)", message, re.MULTILINE)
        reasons = [reason for reason in reasons if not reason.startswith(UNHELPFUL)]
        message = reasons[0] if reasons else message
        message = re.sub(r"^Problem with given class_path '[\w.]+':\s*", "", message)
    name = "" if argument is None else argument[1]
    inner = re.search(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL)
    if inner is not None:
        name = inner[1] if inner[1].startswith(name) or not name else f"{name}.{inner[1]}"
        message = inner[2]
    if expected := re.match(r"Expected a <class '([\w.]+)'>\. Got value: (.*)", message, re.DOTALL):
        return f"--{name} must be {_in_words(expected[1], expected[2])}, not {expected[2]!r}."
    if path := re.match(r"Expected a dot import path string: (.*)", message):
        return f"--{name}: {path[1]!r} is no path of a class, such as package.module.Class."
    if choices := _choices(whole):
        given = re.search(r"Given value: (.*)", whole)
        return f"--{name} must be one of {', '.join(choices)}" + (f", not {given[1]}." if given else ".")
    if message.startswith("Does not validate") and (sentence := _of_union(name, whole)):
        return sentence
    return f"--{name}: {message}" if name else message


def _of_union(name: str, message: str) -> str | None:
    """Returns which types the innermost argument of a message may have, and what it was given; ``None`` if unknown."""
    innermost = message[message.rindex("Subtypes:") :] if "Subtypes:" in message else ""
    types = re.match(r"Subtypes: \[(.*)\]\n", innermost)
    given = re.search(r"Given value: (.*)", innermost)
    if types is None or given is None:
        return None
    if part := re.match(r"NestedArg\(key='([\w.]+)', val='?(.*?)'?\)$", given[1]):  # --model.penalties.r1 x
        wrong = re.search(r"- Expected a <class '([\w.]+)'>\. Got value: ", innermost)
        return f"--{name}.{part[1]} must be {_in_words(wrong[1], part[2])}, not {part[2]!r}." if wrong else None
    kinds = re.findall(r"<class '([\w.]+)'>|([\w.]+)\[", types[1])
    words = [_in_words(kind or generic, given[1]) for kind, generic in kinds]
    return f"--{name} must be {' or '.join(words)}, not {given[1]!r}."


def _in_words(kind: str, given: str) -> str:
    """Returns a type in plain words; ``given`` is the value in its place."""
    return PLAIN.get(kind, kind) + (f" such as [{given}]" if kind.endswith(".Sequence") else "")


def _choices(message: str) -> list[str]:
    """Returns the values that an argument may have, if its type lists them."""
    found = re.findall(r"typing\.Literal\[(.*?)\]", message)
    values = [value.strip(" '") for group in found for value in group.split(",")]
    return list(dict.fromkeys(values))
