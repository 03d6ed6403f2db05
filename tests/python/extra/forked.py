"""Commands of the package in copies of this process, which has PyTorch or Optuna in it already: to load them takes seconds of each command."""
import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def ends_with_parent(parent, number=signal.SIGKILL):
    """This process, which `parent` (a PID) has just started, gets a signal when that one ends, however it ends (prctl(2)); where it has ended
    already, this one ends, too."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Forked:
    """main(arguments) in a process of its own, which runs in `directory`. As subprocess.Popen: pid, returncode, poll, wait, kill, send_signal.
    This process must have no connection to a database and no GPU at the time: a copy of either serves neither of the two."""

    def __init__(self, main, arguments, directory, environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        """stdout, stderr: files that are open, or DEVNULL."""
        self.returncode = None
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            ends_with_parent(parent)
            gc.freeze()  # what was this process's is not ended by its copy
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDWR)
            for to, file in ((0, subprocess.DEVNULL), (1, stdout), (2, stderr)):
                os.dup2(nothing if file == subprocess.DEVNULL else file.fileno(), to)
            os.chdir(directory)
            os.environ.clear()
            os.environ.update(environment)
            if "torch" in sys.modules:
                # Its pool of threads is not copied. It is made anew here, and not by two threads at once, which is an error of PyTorch.
                sys.modules["torch"].set_num_threads(1)
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status or 0)

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout or float("inf"))
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a copy of this process", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def run(main, arguments, directory, environment, timeout):
    """(exit status, standard output, standard error) of one that is waited for."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        process = Forked(main, arguments, directory, environment, out, said)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        texts = []
        for file in (out, said):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return status, *texts
