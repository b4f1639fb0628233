"""The command line: which command runs, and what each way to end looks like."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

import mdsys
from mdsys import cli, commands
from mdsys.errors import ConfigError, InstanceInUse, MdsysError, NotRunning

Result = tuple[int, str, str]
Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line; ``action`` is what the command "fake" does."""

    def run_it(
        *arguments: str,
        action: Callable[[argparse.Namespace], int] = lambda _: 0,
        extra: str | None = None,
        interrupt_is_end: bool = False,
    ) -> Result:
        module = ModuleType("mdsys_fake")
        module.main = action  # type: ignore[attr-defined]
        module.add_arguments = lambda parser: parser.add_argument("--count", type=int)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "mdsys_fake", module)
        fake = commands.Command("mdsys_fake", "does as told", "", extra, interrupt_is_end)
        monkeypatch.setitem(commands.COMMANDS, "fake", fake)
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_it


def raises(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def action(_: argparse.Namespace) -> int:
        raise error

    return action


def test_a_command_gets_its_arguments_and_its_code_is_ours(run: Run) -> None:
    assert run("fake", "--count", "7", action=lambda args: int(args.count))[0] == 7


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MdsysError("no luck"), 1, "mdsys: no luck\n"),
        (NotRunning("nothing runs"), 69, "mdsys: nothing runs\n"),
        (InstanceInUse("it runs"), 75, "mdsys: it runs\n"),
        (ConfigError("F: a: b", "F: c: d"), 78, "F: a: b\nF: c: d\n"),
        (PermissionError(13, "Permission denied", "/x"), 77, "mdsys: /x: Permission denied\n"),
        (OSError(28, "No space left on device", "/y"), 1, "mdsys: /y: No space left on device\n"),
        (ConnectionError("it hung up"), 1, "mdsys: it hung up\n"),
    ],
)
def test_an_error_is_told_in_a_line_and_by_its_code(
    run: Run, error: Exception, code: int, message: str
) -> None:
    assert run("fake", action=raises(error)) == (code, "", message)


def test_a_bug_of_ours_is_not_hidden(run: Run) -> None:
    with pytest.raises(ZeroDivisionError):
        run("fake", action=raises(ZeroDivisionError()))


def test_a_missing_extra_is_named_with_what_brings_it_before_anything_begins(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(commands.EXTRAS, "daemon", ("json", "no_such_module"))
    message = "mdsys: fake needs no_such_module: pip install 'mdsys[daemon]'\n"
    begun = raises(AssertionError("it began"))
    assert run("fake", action=begun, extra="daemon") == (1, "", message)


def test_a_command_without_an_extra_needs_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(commands.EXTRAS, "daemon", ("no_such_module",))
    assert run("fake") == (0, "", "")


def test_the_extras_are_those_of_the_package() -> None:
    wanted: dict[str, set[str]] = {name: set() for name in commands.EXTRAS}
    for requirement in metadata.requires("mdsys") or ():
        package = re.split(r"[^A-Za-z0-9_-]", requirement)[0]
        if (found := re.search(r'extra == "(\w+)"', requirement)) and found[1] in wanted:
            wanted[found[1]].add(package)
    assert {name: set(modules) for name, modules in commands.EXTRAS.items()} == wanted


@pytest.mark.parametrize(("interrupt_is_end", "code"), [(True, 0), (False, 130)])
def test_ctrl_c_is_quiet(run: Run, interrupt_is_end: bool, code: int) -> None:
    end = raises(KeyboardInterrupt())
    assert run("fake", action=end, interrupt_is_end=interrupt_is_end) == (code, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tapp"], "mdsys: no command 'tapp'; did you mean tap?"),
        (["xyzzy"], "mdsys: no command 'xyzzy'; there are demo, check, run"),
        (["--verison"], "mdsys: "),
        (["fake", "--count", "x"], "mdsys fake: argument --count: invalid int value: 'x'"),
        (["fake", "--cuont", "1"], "mdsys fake: unrecognized arguments: --cuont 1"),
        (["fake", "--coun", "1"], "mdsys fake: unrecognized arguments: --coun 1"),
    ],
)
def test_wrong_usage_is_one_line_and_64(run: Run, arguments: list[str], words: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (64, "")
    assert err.startswith(words)
    assert err.count("\n") == 1
    assert "--help" in err


def test_no_command_at_all_is_answered_with_the_commands(run: Run) -> None:
    code, out, err = run()
    assert (code, out) == (64, "")
    assert all(f"  {name} " in err for name in commands.COMMANDS)


def test_help_and_version_go_to_stdout(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert all(command.summary in out for command in commands.COMMANDS.values())
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert out.startswith("mdsys ")


def test_a_commands_help_shows_how_to_use_it(run: Run) -> None:
    code, out, _ = run("check", "--help")
    assert code == 0
    assert "mdsys check --config mdsys.toml" in out


@pytest.mark.parametrize(("name", "unwanted"), [("tap", "mdsys.daemon"), ("ctl", "numpy")])
def test_only_the_command_that_was_asked_for_is_imported(name: str, unwanted: str) -> None:
    code = (
        "import sys, contextlib, mdsys.cli\n"
        f"with contextlib.suppress(SystemExit): mdsys.cli.main(['{name}', '--help'])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stderr.split())
    modules = {command.module for command in commands.COMMANDS.values()}
    assert imported & modules == {commands.COMMANDS[name].module}
    assert unwanted not in imported


@pytest.mark.parametrize("line_count", [1, 100_000])  # held in a buffer; more than a pipe holds
def test_a_reader_that_leaves_a_pipe_ends_the_command_quietly(line_count: int) -> None:
    code = (
        "import sys, types\n"
        "from mdsys import cli, commands\n"
        "fake = types.ModuleType('fake')\n"
        "fake.add_arguments = lambda parser: None\n"
        "def main(args):\n"
        "    sys.stdin.readline()\n"  # until the reader is gone
        f"    for _ in range({line_count}): print('a line')\n"
        "    return 0\n"
        "fake.main = main\n"
        "sys.modules['fake'] = fake\n"
        "commands.COMMANDS['fake'] = commands.Command('fake', 'f', '', None)\n"
        "sys.exit(cli.main(['fake']))\n"
    )
    pipe = subprocess.PIPE
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=buffered
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write("go\n")
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


KILLED_AT = """
import os, sys

class Finder:
    def find_spec(self, name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "name", ["mdsys.commands", "argparse", "mdsys.daemon.run_command", "mdsys.config", "picows"]
)
@pytest.mark.parametrize("program", [("-m", "mdsys"), ("-c", "import mdsys.cli as c; c.main()")])
def test_daemon_that_is_stopped_while_it_is_being_imported_ends_with_0(
    program: tuple[str, str], name: str, number: int, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLED_AT.format(name=name, number=int(number)))
    ended = subprocess.run(
        [sys.executable, *program, "run", "--config", str(tmp_path / "none.toml")],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:{tmp_path}"},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_before_a_signal_is_heeded_nothing_of_ours_but_the_names_of_errors_is_imported() -> None:
    code = "import sys, mdsys.cli; print(*(m for m in sys.modules if m.startswith('mdsys')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"mdsys", "mdsys.cli", "mdsys.errors"}


def test_ctrl_c_while_a_command_is_being_imported_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLED_AT.format(name="numpy", number=2))
    ended = subprocess.run(
        [sys.executable, "-m", "mdsys", "tap"],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:{tmp_path}"},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_check_prints_every_error_to_stderr_and_ends_with_78(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('instance = "X"\n[[venue]]\nname = "binance"\nsymbol_file = "s"\n')
    code, out, err = run("check", "--config", str(path))
    assert (code, out) == (78, "")
    assert err.splitlines() == [
        f'{path}: instance: "X" is not 1 to 32 of a-z, 0-9, _ and -',
        f"{path}: venue[0].symbol_file: unknown key; did you mean symbols_file?",
    ]


def test_check_prints_the_effective_config_to_stdout(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[[venue]]\nname = "binance"\nsymbols = ["BTCUSDT"]\nchannels = ["trade"]\n')
    code, out, err = run("check", "--config", str(path))
    assert (code, err) == (0, "")
    assert 'buffer_size = "512 KiB"' in out
    path.write_text(out)
    assert run("check", "--config", str(path))[:2] == (0, out)


def test_check_without_a_file_is_a_matter_of_usage(run: Run) -> None:
    code, _, err = run("check")
    assert code == 64
    assert "--config" in err


@pytest.mark.parametrize("program", ["mdsys", "python"])
def test_checkout_that_is_not_built_says_so_and_what_to_run(tmp_path: Path, program: str) -> None:
    package = tmp_path / "checkout" / "mdsys"
    package.mkdir(parents=True)
    (package / "__init__.py").write_bytes(Path(str(mdsys.__file__)).read_bytes())
    script = tmp_path / program
    script.write_text("from mdsys.cli import main")
    ended = subprocess.run(
        [sys.executable, "-S", str(script)],  # -S: the tests' own mdsys cannot be imported
        env={"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    words = "mdsys: the C extensions are not built; run: make build\n"
    assert ended.returncode == 1
    if program == "mdsys":
        assert ended.stderr == words
    else:
        assert ended.stderr.endswith(f"ImportError: {words}")
