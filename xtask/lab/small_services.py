"""Small servers that no package offers in the form needed here; the arguments are the addresses to serve.

`echo`: TCP 7007, answers each line after a moment, as chat, telemetry or a message broker does.
`sink`: UDP 5140, takes datagrams and says nothing, as a log collector does.
`time`: UDP 1123, one answer per datagram, as a time server does.
`slow`: HTTP on TCP 8088, thinks for a while before it answers, as a report generator does.
"""

import asyncio
import random
import sys


async def echo(reader, writer):
    try:
        while line := await reader.readline():
            await asyncio.sleep(random.uniform(0, 0.05))
            writer.write(b"ok " + line)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def slow(reader, writer):
    try:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(random.uniform(0.5, 12))
        body = b"x" * random.randrange(50, 20000)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answers):
        self.answers = answers

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        if self.answers:
            self.transport.sendto(data[:48].ljust(48, b"\0"), address)


async def main():
    loop = asyncio.get_running_loop()
    # One socket per address: a datagram must be answered from the address that was asked.
    for host in sys.argv[1:]:
        await asyncio.start_server(echo, host, 7007)
        await asyncio.start_server(slow, host, 8088)
        for port, answers in ((5140, False), (1123, True)):
            await loop.create_datagram_endpoint(lambda a=answers: Datagrams(a), local_addr=(host, port))
    await asyncio.Event().wait()


asyncio.run(main())
