"""An upload with the HTTP client of Python: upload.py URL FILE PIECE"""

import http.client
import sys
import urllib.parse

url, file, piece = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3])
connection = http.client.HTTPConnection(url.hostname, url.port)


def packet(kind, fields, body=None):
    connection.request("BITS_POST", url.path, body, {"BITS-Packet-Type": kind} | fields)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        sys.exit(f"{kind}: {answer.status}\n{answer.headers}")
    return answer


created = packet("Create-Session", {"BITS-Supported-Protocols": "{7df0354d-249b-430f-820d-3d2a9bef4931}"})
session = {"BITS-Session-Id": created.headers["BITS-Session-Id"]}
if host := created.headers["BITS-Host-Id"]:
    connection = http.client.HTTPConnection(host, url.port)
content = open(file, "rb").read()
for first in range(0, len(content), piece):
    body = content[first : first + piece]
    span = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
    packet("Fragment", session | {"Content-Range": span}, body)
packet("Close-Session", session)
