"""Holds the tree to the size limits of the house style; prints what is too large and exits 1.

Python files <= 400 lines, C files <= 500, functions <= 70 lines, at most five parameters (of Python functions, self and
keyword-only included). Generated files carry ``@generated`` in their first lines and are exempt.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
PYTHON_LINES, C_LINES, FUNCTION_LINES, PARAMETERS = 400, 500, 70, 6
GENERATED = "@generated"
C_FUNCTION = re.compile(r"^(?!typedef|struct|enum|union|static const|#)[A-Za-z_].*\)\s*(?:\{.*)?$")


def tracked(*patterns: str) -> list[Path]:
    """The files under version control that match."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for name in listed.stdout.split() if (path := ROOT / name).is_file()]


def python_functions(text: str) -> Iterator[tuple[str, int, int, int]]:
    """Name, line, length in lines and number of parameters of each function."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            parameters = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
            counted = len([name for name in parameters if name not in ("self", "cls")])
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1, counted


def c_functions(text: str) -> Iterator[tuple[str, int, int]]:
    """Name, line and length of each function: from its opening line to the brace in the first column."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        if line == "{" or (C_FUNCTION.match(line) and line.rstrip().endswith("{")):
            end = next((i for i in range(start, len(lines)) if lines[i].startswith("}")), start)
            name = re.search(r"(\w+)\s*\(", line if line != "{" else lines[start - 1])
            yield (name[1] if name else "?"), start + 1, end - start + 1


def check_python(path: Path, lengths: list[int]) -> Iterator[str]:
    """What is too large in a Python file; the length of each function is added to ``lengths``."""
    text, name = path.read_text(), path.relative_to(ROOT)
    if GENERATED in text[:400]:
        return
    if (count := text.count("\n")) > PYTHON_LINES:
        yield f"{name}: {count} lines, allowed: {PYTHON_LINES}"
    for function, line, length, parameters in python_functions(text):
        lengths.append(length)
        if length > FUNCTION_LINES:
            yield f"{name}:{line}: {function} has {length} lines, allowed: {FUNCTION_LINES}"
        if parameters > PARAMETERS and not str(name).startswith("tests/"):
            yield f"{name}:{line}: {function} has {parameters} parameters, allowed: {PARAMETERS}"


def check_c(path: Path) -> Iterator[str]:
    """What is too large in a C file."""
    text, name = path.read_text(), path.relative_to(ROOT)
    if GENERATED in text[:400]:
        return
    if (count := text.count("\n")) > C_LINES:
        yield f"{name}: {count} lines, allowed: {C_LINES}"
    for function, line, length in c_functions(text):
        if length > FUNCTION_LINES:
            yield f"{name}:{line}: {function} has {length} lines, allowed: {FUNCTION_LINES}"


def main() -> int:
    """Print every excess, then the figures that show the tail."""
    lengths: list[int] = []
    excess = [line for path in tracked("*.py") for line in check_python(path, lengths)]
    excess += [line for path in tracked("*.c", "*.h") for line in check_c(path)]
    print(*excess, sep="\n", end="\n" if excess else "")
    tail = quantiles(lengths, n=10)[-1]
    print(f"sizes: {len(lengths)} Python functions, median {median(lengths):.0f}, p90 {tail:.0f}, longest {max(lengths)}")
    return 1 if excess else 0


if __name__ == "__main__":
    sys.exit(main())
