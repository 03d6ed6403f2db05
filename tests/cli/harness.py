"""What the command line tests share: running mossc in a scratch folder, the specs they use, and .npy files without NumPy."""
import json
import pathlib
import resource
import signal
import struct
import subprocess

# Every kind of block, small enough that a compilation takes no time.
TINY = """\
mossc: 1
name: tiny
vocab_size: 256
d_model: 32
defaults: {ssm: {d_state: 4}, router: {top_k: 2}}
stack:
  - ssm: {experts: {count: 4, per_expert: [x_proj, dt_proj, A, D]}}
  - mlp: {d_ff: 48, experts: {count: 4}}
  - attention: {n_heads: 2, window: 8}
"""
WRONG = TINY.replace("d_ff", "dff")


class Mossc:
    """The program in a scratch folder. A test fails by an assertion that shows the command and what it printed."""

    def __init__(self, program, folder):
        self.program, self.folder = str(pathlib.Path(program).resolve()), pathlib.Path(folder)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    def run(self, *arguments, status=0, stdin=b"", stdout=subprocess.PIPE, largest_file=None):
        """Runs `mossc ARGUMENTS` and demands its exit status. largest_file: bytes after which writing fails, as on a full disk."""

        def limit():
            if largest_file is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        command = [self.program, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, input=stdin, stdout=stdout, stderr=subprocess.PIPE, preexec_fn=limit,
                              restore_signals=largest_file is None, timeout=300)
        done.stderr = done.stderr.decode(errors="replace")
        shown = f"mossc {' '.join(command[1:])}\nended with {done.returncode}, not {status}; it printed\n{(done.stdout or b'')[:2000]!r}\n{done.stderr}"
        assert done.returncode == status, shown
        return done

    def out(self, *arguments, **options):
        return self.run(*arguments, **options).stdout.decode()

    def json(self, *arguments, **options):
        return json.loads(self.out(*arguments, **options))

    def error(self, *arguments, status=1, **options):
        """Standard error of a command that must fail, printing nothing on standard output."""
        done = self.run(*arguments, status=status, **options)
        assert not done.stdout, f"{arguments} failed, yet printed {done.stdout[:200]!r}"
        return done.stderr

    def npy(self, name):
        """Rows of a float32 .npy file, and its bytes."""
        data = (self.folder / name).read_bytes()
        assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
        (size,) = struct.unpack_from("<H", data, 8)
        header = data[10 : 10 + size].decode()
        assert (10 + size) % 64 == 0 and header.endswith("\n"), header
        entries = eval(header, {"__builtins__": {}})  # a literal of NumPy's format, written by the program under test
        assert entries["descr"] == "<f4" and entries["fortran_order"] is False, entries
        rows, columns = entries["shape"]
        assert len(data) == 10 + size + 4 * rows * columns, (len(data), entries)
        values = struct.unpack_from(f"<{rows * columns}f", data, 10 + size)
        return [values[i * columns : (i + 1) * columns] for i in range(rows)], data

    def left(self):
        """Names in the scratch folder: what a failed command left behind shows here."""
        return sorted(path.name for path in self.folder.iterdir())
