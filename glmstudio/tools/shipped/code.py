"""Python code. It runs in the fence like every tool: no network, no files but a temporary folder, bounded time."""

from __future__ import annotations

import ast
import contextlib
import io
import traceback

from glmstudio.tools.tool_error import ToolError

PERMISSION = "never"

_LONGEST = 100_000


def interpreter(code: str) -> str:
    """Runs Python code and tells what it prints, and the value of its last line.

    Args:
        code: The code.
    """
    printed = io.StringIO()
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise ToolError(f"SyntaxError: {error}") from error
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    names: dict[str, object] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            # Running what the model wrote is this tool's purpose; the process is fenced, and ends with it.
            exec(compile(tree, "<code>", "exec"), names)  # noqa: S102
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "<code>", "eval"), names)  # noqa: S307
                if value is not None:
                    printed.write(f"{value!r}\n")
        except PermissionError:
            raise  # something that the fence forbids: the studio names it
        except MemoryError:
            raise
        except BaseException as error:
            steps = traceback.walk_tb(error.__traceback__)
            lines = [line for frame, line in steps if frame.f_code.co_filename == "<code>"]
            where = f" (line {lines[-1]})" if lines else ""
            said = f"{type(error).__name__}: {error}{where}"
            raise ToolError(f"{printed.getvalue()[-_LONGEST:]}{said}") from error
    return printed.getvalue()[:_LONGEST].rstrip("\n") or "(nothing was printed)"
