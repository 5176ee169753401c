"""WebSocket echo: a real server, and a thousand real clients through the gate; then the gate drains.

Usage: echo.py server PORT | echo.py clients URL COUNT   (prints "ready" and waits for the closes)
"""
import asyncio
import os
import sys

import websockets


async def server(port):
    async def echo(socket):
        async for message in socket:
            await socket.send(message)
    async with websockets.serve(echo, "127.0.0.1", port, max_size=None, backlog=2048):
        print("ready", flush=True)
        await asyncio.Future()


async def clients(url, count):
    gate = asyncio.Semaphore(100)

    async def open_one(number):
        async with gate:
            socket = await websockets.connect(url, max_size=None, open_timeout=30)
        return socket
    sockets = await asyncio.gather(*(open_one(number) for number in range(count)))

    async def talk(number, socket):
        for message in (f"hello {number}", os.urandom(1000), os.urandom(70000) if number % 100 == 0 else b"", f"bye {number}"):
            await socket.send(message)
            answer = await asyncio.wait_for(socket.recv(), 30)
            assert answer == message, (number, len(answer))
    await asyncio.gather(*(talk(number, socket) for number, socket in enumerate(sockets)))
    print("ready", flush=True)

    async def closed(socket):
        try:
            await asyncio.wait_for(socket.recv(), 30)
        except websockets.exceptions.ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else None
    codes = await asyncio.gather(*(closed(socket) for socket in sockets))
    print({code: codes.count(code) for code in set(codes)}, flush=True)


if sys.argv[1] == "server":
    asyncio.run(server(int(sys.argv[2])))
else:
    asyncio.run(clients(sys.argv[2], int(sys.argv[3])))
