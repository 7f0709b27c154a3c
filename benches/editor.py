"""An editor that types into `stead lsp`: how long each keystroke waits for completion and for diagnostics, and how much memory it takes.

Used by `benches/run lsp`; by itself: python3 benches/editor.py PROGRAM
"""

import json
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

LINES = 5000
TYPED = (
    '    publish 18080 to=80 address="127.0.0.1"\n'
    '    mount volume="data" to="/var/lib/data"\n'
    '    healthcheck interval="5s" {\n        exec "wget" "-q" "localhost"\n    }\n'
    '    env MODE="${tag}" LEVEL=3\n'
)
KEYSTROKES = 200


def project():
    """A project file of 5,000 lines."""
    lines = ['project "large"', 'param "tag" default="dev"', 'volume "data"', 'image "app" {', '    from "docker.io/library/redis:7"', "}"]
    number = 0
    while len(lines) < LINES:
        lines += [
            f'container "web-{number}" {{', '    image "app"  // the one above', f'    env NUMBER={number} TAG="${{tag}}"',
            '    mount volume="data" to="/data"', f"    publish {2000 + number} to=80", "    limits {", '        memory "256MiB"',
            "    }", '    healthcheck interval="2s" {', '        exec "true"', "    }", "}", "",
        ]
        number += 1
    return "\n".join(lines) + "\n"


class Server:
    """The server, as an editor talks to it."""

    def __init__(self, program, folder):
        self.process = subprocess.Popen([program, "lsp"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.came, self.kept, self.last = queue.Queue(), [], 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while header := self.process.stdout.readline():
            length = int(header.split(b":")[1])
            while self.process.stdout.readline().strip():
                pass
            self.came.put((time.perf_counter(), json.loads(self.process.stdout.read(length))))

    def send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def tell(self, method, params):
        self.send({"method": method, "params": params})

    def ask(self, method, params):
        self.last += 1
        self.send({"id": self.last, "method": method, "params": params})
        return self.last

    def wait(self, wanted):
        """The first message that is wanted, and when it came."""
        for at, (_, message) in enumerate(self.kept):
            if wanted(message):
                return self.kept.pop(at)
        while True:
            when, message = self.came.get(timeout=60)
            if wanted(message):
                return when, message
            self.kept.append((when, message))

    def answer(self, number):
        return self.wait(lambda message: message.get("id") == number and "method" not in message)

    def diagnostics(self, version):
        return self.wait(
            lambda message: message.get("method") == "textDocument/publishDiagnostics" and message["params"].get("version") == version)

    def peak(self):
        """The most memory that it has had, in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def end(self):
        self.answer(self.ask("shutdown", None))
        self.tell("exit", None)
        self.process.stdin.close()
        self.process.wait(10)


def share(values, part):
    """A percentile."""
    return sorted(values)[min(len(values) - 1, round(len(values) * part))]


def measure(program):
    """Types; returns milliseconds of each keystroke until completion and until diagnostics, of opening, and the peak memory in MiB."""
    with tempfile.TemporaryDirectory(prefix="stead-editor-") as folder:
        text = project()
        path = pathlib.Path(folder) / "stead.kdl"
        path.write_text(text)
        server = Server(program, folder)
        server.answer(server.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}}))
        server.tell("initialized", {})
        document = {"uri": f"file://{path}"}
        began = time.perf_counter()
        server.tell("textDocument/didOpen", {"textDocument": {**document, "languageId": "kdl", "version": 0, "text": text}})
        opened = (server.diagnostics(0)[0] - began) * 1000
        lines = text.split("\n")
        line = next(at for at in range(LINES // 2, LINES) if lines[at].startswith("container ")) + 1
        column, completion, diagnostics = 0, [], []
        for version, key in enumerate((TYPED * 2)[:KEYSTROKES], 1):
            place = {"line": line, "character": column}
            change = {"range": {"start": place, "end": place}, "text": key}
            line, column = (line + 1, 0) if key == "\n" else (line, column + 1)
            began = time.perf_counter()
            server.tell("textDocument/didChange", {"textDocument": {**document, "version": version}, "contentChanges": [change]})
            asked = server.ask("textDocument/completion", {"textDocument": document, "position": {"line": line, "character": column}})
            completion.append((server.answer(asked)[0] - began) * 1000)
            diagnostics.append((server.diagnostics(version)[0] - began) * 1000)
        peak = server.peak()
        server.end()
        return completion, diagnostics, opened, peak


def main():
    completion, diagnostics, opened, peak = measure(sys.argv[1])
    for name, values in (("completion", completion), ("diagnostics", diagnostics)):
        print(f"{name}: p50 {share(values, 0.5):.1f} ms, p99 {share(values, 0.99):.1f} ms")
    print(f"opened: {opened:.1f} ms; peak memory: {peak:.1f} MiB")


if __name__ == "__main__":
    main()
