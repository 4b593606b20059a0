"""A model that does what it is told: while it loads by its ``data/what.txt``, afterwards by its input.

It is copied into the folder of a model as its loader module.
"""

import ctypes
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_GET_DUMPABLE = 3
PTRACE_SEIZE = 0x4206
NICENESS = float(os.getpriority(os.PRIO_PROCESS, 0))  # of the thread that loads


def _load_pyfunc(data: str) -> "Trouble":
    what = Path(data, "what.txt").read_text("utf-8")
    if what:
        print("about to", what)
    do(what)
    return Trouble()


class Trouble:
    def predict(self, table: Any) -> Any:
        answers = [do(what) for what in table["do"]]
        values = [
            number if answer is None else answer for answer, number in zip(answers, table["x"], strict=True)
        ]
        return [*values, 0.0] if "another" in set(table["do"]) else values


def another(_: str) -> None:
    """One row too many; see `Trouble`."""


def sleep(seconds: str) -> None:
    time.sleep(float(seconds))


def hold_the_gil(_: str) -> None:
    re.match(r"(a|a)*$", "a" * 60 + "b")


def spin(seconds: str) -> None:
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        pass


def spin_until(path: str) -> None:
    while not Path(path).exists():
        pass


def sleep_with_the_gil(seconds: str) -> None:
    ctypes.PyDLL(None).sleep(int(seconds))


def deadlock(_: str) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def fork_a_child(_: str) -> None:
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)


def leave(status: str) -> None:
    os._exit(int(status))


def quit_by_exception(status: str) -> None:
    sys.exit(int(status))


def crash(_: str) -> None:
    ctypes.string_at(0)


def be_killed(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_by(number: str) -> None:
    signal.signal(int(number), signal.SIG_DFL)
    os.kill(os.getpid(), int(number))
    time.sleep(600)


def lack(number: str) -> None:
    """Raise a system error as a library does that replaces its text."""
    error = RuntimeError("cannot go on")
    error.__context__ = OSError(int(number), os.strerror(int(number)))
    raise error


def need(module: str) -> None:
    __import__(module)


def fail(words: str) -> None:
    raise ValueError(words)


def fill_memory(_: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    bytearray(8 << 30)


def talk(size: str) -> None:
    print("words " * (int(size) // 6))
    os.write(1, b"straight to the descriptor\n")
    subprocess.run([sys.executable, "-c", "print('a child talks')"], check=True)


def start_children(_: str) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    subprocess.Popen(sleeper)
    subprocess.Popen(sleeper, start_new_session=True)
    if os.fork() == 0:  # a daemon by the book
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)


def nest(depth: str) -> None:
    """Leave folders in each other in the scratch folder, deeper than any path, and one that is closed."""
    here = Path.cwd()
    Path("closed/inner").mkdir(parents=True)
    Path("closed/inner/file").touch()
    Path("closed").chmod(0)
    for _ in range(int(depth)):
        Path("nested").mkdir()
        os.chdir("nested")
    os.chdir(here)


def write(path: str) -> float:
    return _whether(lambda: Path(path).write_text("x", "utf-8"))


def read(path: str) -> float:
    return _whether(Path(path).read_bytes)


def remove(path: str) -> float:
    return _whether(Path(path).unlink)


def rename(path: str) -> float:
    return _whether(lambda: Path(path).rename(f"{path}.moved"))


def link(path: str) -> float:
    return _whether(lambda: Path(path).symlink_to("/etc/hostname"))


def listen(path: str) -> float:
    with socket.socket(socket.AF_UNIX) as plug:
        return _whether(lambda: plug.bind(path))


def reach(port: str) -> float:
    return _whether(lambda: socket.create_connection(("127.0.0.1", int(port)), 1).close())


def reach_process(pid: str) -> float:
    return _whether(lambda: os.kill(int(pid), 0))


def variable(name: str) -> float:
    return float(name in os.environ)


def niceness(_: str) -> float:
    return float(os.getpriority(os.PRIO_PROCESS, 0))


def niceness_of_the_load(_: str) -> float:
    return NICENESS


def act(path: str) -> float:
    """The status with which the daemon answers an order over its Unix socket."""
    with socket.socket(socket.AF_UNIX) as plug:
        plug.connect(path)
        plug.sendall(b"POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        return float(plug.recv(100).split()[1])


def act_by_a_child(path: str) -> float:
    found = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {__name__} as me"
    code = f"{found}; print(me.act({path!r}))"
    return float(subprocess.check_output([sys.executable, "-c", code], env={}, start_new_session=True))


def trace(pid: str) -> float:
    return float(ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(pid), 0, 0) == 0)


def join_network(pid: str) -> float:
    def join() -> None:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), "setns")

    return _whether(join)


def kill(pid: str) -> float:
    return _whether(lambda: os.kill(int(pid), 9))


def forge(header: str) -> None:
    """Answer in the place of the process, with *header*, whatever request may be open."""
    for number in range(1, 40):
        reported = header.replace("NUMBER", str(number)).encode()
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                if str(descriptor.readlink()).startswith("socket:"):
                    os.write(int(descriptor.name), struct.pack("!IQ", len(reported), 0) + reported)
            except OSError:
                continue


def dumpable(_: str) -> float:
    return float(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))


def number(text: str) -> float:
    return float(text)


def word(text: str) -> str:
    return text


def _whether(attempt: Any) -> float:
    try:
        attempt()
    except OSError:
        return 0.0
    return 1.0


def do(what: str) -> Any:
    """*what* is a name and text; the result is what is predicted, None for the input's number."""
    name, _, argument = what.partition(" ")
    return DEEDS[name](argument) if name else None


DEEDS: dict[str, Callable[[str], Any]] = {
    deed.__name__: deed
    for deed in (
        *(another, sleep, hold_the_gil, leave, quit_by_exception, crash, need, fail, fill_memory, talk),
        *(
            start_children,
            nest,
            write,
            read,
            reach,
            reach_process,
            variable,
            niceness,
            niceness_of_the_load,
        ),
        *(dumpable, number, word, remove, rename, link, listen),
        *(spin, spin_until, sleep_with_the_gil, deadlock, fork_a_child),
        *(end_by, lack),
        *(act, act_by_a_child, trace, join_network, kill, forge, be_killed),
    )
}
