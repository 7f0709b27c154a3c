"""This is an ssh server for tests. It lets everybody who has a key run commands in a directory of this machine.

Its arguments are the host key, a file of the keys that may log in, the directory, and "env" if it accepts variables
of the client. It prints its port.
"""

import asyncio
import os
import sys

import asyncssh

HOST_KEY, KEYS, FOLDER, ACCEPT = sys.argv[1:]


async def serve(process):
    env = dict(os.environ)
    env.pop("GIT_PROTOCOL", None)
    if ACCEPT == "env":
        env.update(process.env)
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_shell(
        process.command, cwd=FOLDER, env=env, stdin=pipe, stdout=pipe, stderr=pipe
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    status = await child.wait()
    # What it said last is passed on before its status.
    await process.stdout.drain()
    await process.stderr.drain()
    process.exit(status)


async def main():
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[HOST_KEY],
        authorized_client_keys=KEYS,
        process_factory=serve,
        encoding=None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    # It ends when the process that started it is gone.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
