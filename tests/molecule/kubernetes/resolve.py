#!/usr/bin/env python3
"""resolve.py SERVER NAME: asks a DNS server for a name's IPv4 address; prints it."""

import socket
import struct
import sys

server, name = sys.argv[1:]
labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
# Header: identifier, recursion desired, one question. Then type A, class IN.
query = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
    link.settimeout(3)
    link.sendto(query, (server, 53))
    answer = link.recv(512)
# The last four bytes of an answer with one A record are the address.
print(socket.inet_ntoa(answer[-4:]) if struct.unpack(">H", answer[6:8])[0] else "no answer")
