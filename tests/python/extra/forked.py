"""Commands of the package in copies of a process that has loaded PyTorch or Optuna: to load them takes seconds of each command.

What is copied has computed nothing and has one thread. A copy of a process that has computed would have PyTorch's pool of threads without the
threads; PyTorch makes it anew in the copy, and where two threads do that at once it fails: "Invalid thread pool".
"""
import ctypes
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_LONGEST = 1 << 17  # bytes of a request: mostly environment variables
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def ends_with_parent(parent, number=signal.SIGKILL):
    """This process, which `parent` (a PID) has just started, gets a signal when that one ends, however it ends (prctl(2)); where it has ended
    already, this one ends, too."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Server:
    """The process that is copied. It ends with this one, and its copies with it."""

    def __init__(self, module):
        """module: of this directory, or another one that can be imported; its main(arguments) is the command."""
        self._module, self._socket, self._process = module, None, None

    def ask(self, request, files=()):
        """What it answers to a request, a dict; files: descriptors that the copy gets."""
        if self._socket is None:
            self._begin()
        sent = json.dumps(request).encode()
        assert len(sent) < _LONGEST, f"a request of {len(sent)} bytes"
        socket.send_fds(self._socket, [sent], files)
        answer = self._socket.recv(_LONGEST)
        assert answer, f"the process that has loaded {self._module} has ended with {self._process.wait()}"
        return json.loads(answer)

    def _begin(self):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, self._module, str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, **_ONE_THREAD}, pass_fds=[theirs.fileno()])

    def start(self, arguments, directory, environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        """A Forked. stdout, stderr: files that are open, or DEVNULL."""
        with open(os.devnull, "r+b") as nothing:
            files = [(nothing if file == subprocess.DEVNULL else file).fileno() for file in (nothing, stdout, stderr)]
            request = {"arguments": [str(a) for a in arguments], "directory": str(directory), "environment": environment}
            return Forked(self, self.ask(request, files)["pid"])

    def run(self, arguments, directory, environment, timeout):
        """(exit status, standard output, standard error) of one that is waited for."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
            process = self.start(arguments, directory, environment, out, said)
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


class Forked:
    """A command that runs, as subprocess.Popen: pid, returncode, poll, wait, kill, send_signal."""

    def __init__(self, server, pid):
        self._server, self.pid, self.returncode = server, pid, None

    def poll(self):
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})["status"]
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout or float("inf"))
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a copy of a process", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _serve(connection, main):
    """Answers requests of the tests' process until it closes the connection."""
    while True:
        data, files, _, _ = socket.recv_fds(connection, _LONGEST, 3)
        if not data:
            return
        request = json.loads(data)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = {"status": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            threads = os.listdir("/proc/self/task")
            assert len(threads) == 1, f"what is to be copied has {len(threads)} threads"
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                connection.close()
                _become(main, request, files, parent)
            answer = {"pid": pid}
        for file in files:
            os.close(file)
        connection.send(json.dumps(answer).encode())


def _become(main, request, files, parent):
    """The command, in a copy: never returns."""
    status = 1
    try:
        ends_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for to, file in enumerate(files):
            os.dup2(file, to)
            os.close(file)
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        status = main(request["arguments"])
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


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    ends_with_parent(int(sys.argv[3]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests' process
    _serve(socket.socket(fileno=int(sys.argv[2])), importlib.import_module(sys.argv[1]).main)
