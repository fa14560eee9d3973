"""What a newcomer does: a page is followed, step by step, and shows what happens."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from tests.documents import Command, File, NotAsShown, Program, Reader, environment_of, is_as_shown, steps

PAGE = textwrap.dedent("""\
    # A page

    <!-- file: hello.py -->
    ```python
    print("hello")
    ```

    ```python
    half = "of a program"
    ```

    <!-- examples/flask_app.py -->
    ```python
    quoted = 1
    ```

    ```console
    $ python hello.py
    hello
    $ python -c 'print(1); print(2)'
    1
    ...
    ```

    ```python
    print(half)
    ```

    <!-- stays -->
    ```console
    $ python -m http.server
    Serving HTTP on ... port 8000 ...
    ```
    """)


def read(page: str, folder: Path, patience: float = 30) -> None:
    """Follow a whole page."""
    with Reader(folder, environment_of(Path(sys.executable).parent), patience) as reader:
        for step in steps(page):
            reader.follow(step)


def test_a_page_is_files_commands_and_a_program() -> None:
    """A page says what to write and what to run; a quotation of an example is neither."""
    assert list(steps(PAGE)) == [
        File("hello.py", 'print("hello")\n'),
        Command("python hello.py", "hello\n"),
        Command("python -c 'print(1); print(2)'", "1\n...\n"),
        Command("python -m http.server", "Serving HTTP on ... port 8000 ...\n", stays=True),
        Program('half = "of a program"\nprint(half)\n'),
    ]


@pytest.mark.parametrize(
    ("printed", "shown", "is_so"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("a 17 s\nb\n", "a ... s\nb\n", True),
        ("a\nb\nc\n", "a\n...\n", True),
        ("b\n", "a\n...\n", False),
        ("anything\n", "", False),
    ],
)
def test_dots_stand_for_anything(printed: str, shown: str, is_so: bool) -> None:
    """What is printed is compared whole, but for the dots."""
    assert is_as_shown(printed, shown) is is_so


def test_files_are_there_when_a_command_runs(tmp_path: Path) -> None:
    """The files of a page are written before the commands after them, and what the commands print is compared."""
    read("<!-- file: a.py -->\n```python\nprint(1)\n```\n```console\n$ python a.py\n1\n```\n", tmp_path)

    with pytest.raises(NotAsShown, match=r"shown:\n2\n--- printed:\n1"):
        read("```console\n$ python a.py\n2\n```\n", tmp_path)


def test_a_command_that_fails_is_not_as_shown(tmp_path: Path) -> None:
    """An exit status is part of what happens, also where nothing is printed or the output does not matter."""
    with pytest.raises(NotAsShown, match="exit status 3"):
        read("```console\n$ python -c 'exit(3)'\n...\n```\n", tmp_path)
    with pytest.raises(NotAsShown, match="ZeroDivisionError"):
        read("```python\n1 / 0\n```\n", tmp_path)


def test_what_stays_is_there_for_the_next_command_and_ended_with_the_page(tmp_path: Path) -> None:
    """A server answers the commands after it, and is gone when the page is."""
    server = (
        "<!-- file: serve.py -->\n```python\nimport time\nprint('up', flush=True)\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('ended')\n```\n"
    )

    read(
        f"{server}<!-- stays -->\n```console\n$ python serve.py\nup\n```\n```console\n$ echo next\nnext\n```\n",
        tmp_path,
    )

    assert (tmp_path / "what_stays.log").read_text() == "up\nended\n"


@pytest.mark.parametrize("line", ["echo down", "sleep 20"])
def test_what_does_not_come_up_is_not_waited_for(line: str, tmp_path: Path) -> None:
    """A server that ends, or that says nothing for too long, is not as shown."""
    with pytest.raises(NotAsShown, match="shown:\nup"):
        read(f"<!-- stays -->\n```console\n$ {line}\nup\n```\n", tmp_path, patience=1)
