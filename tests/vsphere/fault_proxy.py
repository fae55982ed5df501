"""Stands between a client and the simulated vCenter and does to the connection what networks and servers do.

fault_proxy.py PORT FOLDER: forwards to 127.0.0.1:PORT, with the certificate a.pem of the folder. It says
"ready PORT" and then reads commands, a line each, and answers each with a line:

  cut-before METHOD N     the next N requests of that method: the connection ends, nothing is forwarded
  cut-after METHOD N      the same, once the server has done it: the answer is lost
  cut-inside METHOD N     the same, in the middle of the answer
  garbage METHOD N        the answer is no XML
  page METHOD N           the answer is a web page, with the status 503
  fault METHOD KIND N     the answer is that fault, and nothing is forwarded
  pages METHOD N          the answer has the first object alone; the others come with ContinueRetrievePropertiesEx
  hide METHOD N           the answer has no property config.hardware.device: the user may not see it
  stall METHOD N          no answer comes, until `drop` or the client's end
  expire                  the server forgets all the sessions that there are
  drop                    all connections end now
  down, up                new connections are closed at once, or not any more
  certificate NAME        new connections see NAME.pem
  count METHOD            how many requests of that method have come
  logins                  how many sessions the server has given

METHOD is the SOAP method, or GET or PUT for the files of a datastore. It ends with its standard input.
"""

import http.client
import re
import socket
import ssl
import sys
import threading

METHOD = re.compile(rb"<soapenv:Body>\s*<(\w+)")
OBJECT = re.compile(rb"<objects>.*?</objects>", re.DOTALL)
HIDDEN = re.compile(rb"<propSet><name>config.hardware.device</name>.*?</propSet>", re.DOTALL)
HIDING = (
    b"<missingSet><path>config.hardware.device</path><fault>"
    b'<fault xsi:type="NoPermission"></fault><localizedMessage>no</localizedMessage></fault></missingSet>'
)
HOP_BY_HOP = ("transfer-encoding", "connection", "content-length")


class Proxy:
    def __init__(self, port, folder):
        self.port = port
        self.folder = folder
        self.lock = threading.Lock()
        self.rules = []  # [kind, method, extra, how often]
        self.counts = {}
        self.sessions = set()
        self.dead_sessions = set()
        self.connections = set()
        self.is_down = False
        self.next_page = b""
        self.upstream = ssl.create_default_context()
        self.upstream.check_hostname = False
        self.upstream.verify_mode = ssl.CERT_NONE
        self.set_certificate("a")
        self.listener = socket.create_server(("127.0.0.1", 0))

    def set_certificate(self, name):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(f"{self.folder}/{name}.pem")
        self.tls = tls

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            if self.is_down:
                connection.close()
            else:
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, plain):
        try:
            client = self.tls.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        with self.lock:
            self.connections.add(client)
        try:
            self.forward_all(client)
        except (OSError, http.client.HTTPException):
            pass
        with self.lock:
            self.connections.discard(client)
        client.close()

    def forward_all(self, client):
        server = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.upstream)
        reader = client.makefile("rb")
        while True:
            line = reader.readline()
            if not line.endswith(b"\n"):
                break
            verb, target, _ = line.decode("latin-1").split(" ", 2)
            headers = http.client.parse_headers(reader)
            body = reader.read(int(headers.get("Content-Length", 0)))
            if not self.answer(client, server, verb, target, headers, body):
                break
        server.close()

    def take_rule(self, method):
        with self.lock:
            self.counts[method] = self.counts.get(method, 0) + 1
            for rule in self.rules:
                if rule[1] == method and rule[3] > 0:
                    rule[3] -= 1
                    return rule[0], rule[2]
        return None, None

    def answer(self, client, server, verb, target, headers, body):
        """False: the connection is to end."""
        found = METHOD.search(body) if verb == "POST" else None
        kind, extra = self.take_rule(found.group(1).decode() if found else verb)
        if kind == "cut-before":
            return False
        if kind == "stall":
            client.recv(1)
            return False
        if kind == "garbage":
            return self.send(client, 200, [("Content-Type", "text/xml")], b"\x00\xff this is <no> answer")
        if kind == "page":
            return self.send(client, 503, [("Content-Type", "text/html")], b"<html><body>starting up</body></html>")
        if kind == "fault":
            return self.send(client, 500, [("Content-Type", "text/xml")], fault_of(extra))
        if b"<ContinueRetrievePropertiesEx " in body:
            return self.send(client, 200, [("Content-Type", "text/xml")], self.next_page)
        status, reply_headers, reply = self.ask(server, verb, target, headers, body)
        if kind == "pages":
            reply, self.next_page = split(reply)
        if kind == "hide":
            reply = HIDDEN.sub(HIDING, reply)
        if kind == "cut-after":
            return False
        if kind == "cut-inside":
            client.sendall(head_of(status, reply_headers, len(reply)) + reply[: len(reply) // 2])
            return False
        return self.send(client, status, reply_headers, reply)

    def ask(self, server, verb, target, headers, body):
        passed = {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
        with self.lock:
            if any(session in passed.get("Cookie", "") for session in self.dead_sessions):
                del passed["Cookie"]
        server.request(verb, target, body=body, headers=passed)
        response = server.getresponse()
        reply = response.read()
        with self.lock:
            for name, value in response.getheaders():
                if name.lower() == "set-cookie":
                    self.sessions.add(value.split(";")[0].split("=", 1)[1])
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        return response.status, kept, reply

    def send(self, client, status, headers, body):
        client.sendall(head_of(status, headers, len(body)) + body)
        return True

    def command(self, words):
        with self.lock:
            if words[0] in ("cut-before", "cut-after", "cut-inside", "garbage", "page", "pages", "hide", "stall"):
                self.rules.append([words[0], words[1], None, int(words[2])])
            elif words[0] == "fault":
                self.rules.append([words[0], words[1], words[2], int(words[3])])
            elif words[0] == "expire":
                self.dead_sessions |= self.sessions
            elif words[0] == "drop":
                for connection in self.connections:
                    end(connection)
            elif words[0] in ("down", "up"):
                self.is_down = words[0] == "down"
            elif words[0] == "certificate":
                self.set_certificate(words[1])
            elif words[0] == "count":
                return str(self.counts.get(words[1], 0))
            elif words[0] == "logins":
                return str(len(self.sessions))
            else:
                return "what?"
        return "ok"


def split(reply):
    """The answer with its first object and a token, and the one with the others."""
    objects = OBJECT.findall(reply)
    start, end_of_all = reply.index(objects[0]), reply.index(objects[-1]) + len(objects[-1])
    first = reply[:start] + b"<token>1</token>" + objects[0] + reply[end_of_all:]
    others = reply[:start] + b"".join(objects[1:]) + reply[end_of_all:]
    return first, others.replace(b"RetrievePropertiesExResponse", b"ContinueRetrievePropertiesExResponse")


def end(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def head_of(status, headers, length):
    lines = [f"HTTP/1.1 {status} {http.client.responses[status]}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + f"\r\nContent-Length: {length}\r\n\r\n").encode("latin-1")


def fault_of(kind):
    return (
        '<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault>'
        "<faultcode>ServerFaultCode</faultcode><faultstring>the proxy says so</faultstring>"
        f'<detail><{kind}Fault xsi:type="{kind}"/></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>'
    ).encode()


def main():
    proxy = Proxy(int(sys.argv[1]), sys.argv[2])
    threading.Thread(target=proxy.accept, daemon=True).start()
    print("ready", proxy.listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        print(proxy.command(line.split()), flush=True)


if __name__ == "__main__":
    main()
