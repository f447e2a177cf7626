"""An error as one line, in words that say what to do."""

import errno
import re

from zoo.escaping import printable

PLAIN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
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
    if expected := re.match(r"Expected a <class '(\w+)'>\. Got value: (.*)", message, re.DOTALL):
        return f"--{name} must be {PLAIN.get(expected[1], expected[1])}, not {expected[2]!r}."
    if path := re.match(r"Expected a dot import path string: (.*)", message):
        return f"--{name}: {path[1]!r} is no path of a class, such as package.module.Class."
    if choices := _choices(whole):
        given = re.search(r"Given value: (.*)", whole)
        return f"--{name} must be one of {', '.join(choices)}" + (f", not {given[1]}." if given else ".")
    return f"--{name}: {message}" if name else message


def _choices(message: str) -> list[str]:
    """Returns the values that an argument may have, if its type lists them."""
    found = re.findall(r"typing\.Literal\[(.*?)\]", message)
    values = [value.strip(" '") for group in found for value in group.split(",")]
    return list(dict.fromkeys(values))
