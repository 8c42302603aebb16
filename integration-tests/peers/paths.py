"""What lies between the two ends: nothing, or a proxy that passes the upgrade on and is a tunnel from then on.

A proxy listens for ws and for wss, and asks the server that the path of the request names: `/ws/PORT/…` in the clear, `/wss/PORT/…` by TLS,
verified. Its two sockets are bound here, to free ports, and handed to it.
"""

import os
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path


class Direct:
    name = "direct"

    def missing(self):
        return None

    def start(self, directory, certificates):
        pass

    def stop(self):
        pass

    def way(self, scheme, server_tls, port):
        """Where the client connects, and what it asks for."""
        return port, "/"


class Proxy:
    """Handed two listening sockets."""

    name = config = None

    def missing(self):
        return None if shutil.which(self.name, path=_path()) else f"{self.name} is not installed"

    def start(self, directory, certificates):
        directory.mkdir(parents=True, exist_ok=True)
        sockets = {scheme: socket.create_server(("127.0.0.1", 0), backlog=512) for scheme in ("ws", "wss")}
        self.ports = {scheme: end.getsockname()[1] for scheme, end in sockets.items()}
        (directory / "both.pem").write_text(
            (certificates / "server.pem").read_text() + (certificates / "server-key.pem").read_text())
        numbers = {scheme: end.fileno() for scheme, end in sockets.items()}
        config = directory / "config"
        config.write_text(self.config.format(
            directory=directory, certificates=certificates,
            ws_port=self.ports["ws"], wss_port=self.ports["wss"], ws_fd=numbers["ws"], wss_fd=numbers["wss"]))
        program = shutil.which(self.name, path=_path())
        command, environment = self.command(program, directory, config, numbers)
        with (directory / "log").open("w") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **environment}, pass_fds=numbers.values(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        for end in sockets.values():
            end.close()
        try:
            # The sockets listen already: this waits for whoever serves them, and fails if nobody is left who could.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    f"http://127.0.0.1:{self.ports['ws']}/ready", timeout=30) as answer:
                answer.read()
        except OSError as error:
            self.stop()
            raise SystemExit(f"{self.name} does not serve: {error}\n{(directory / 'log').read_text()}") from None

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def way(self, scheme, server_tls, port):
        return self.ports[scheme], f"/{'wss' if server_tls else 'ws'}/{port}/"


class Nginx(Proxy):
    name = "nginx"
    config = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/log info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{ws_port};
        listen 127.0.0.1:{wss_port} ssl;
        ssl_certificate {directory}/both.pem;
        ssl_certificate_key {directory}/both.pem;

        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
        proxy_ssl_trusted_certificate {certificates}/root.pem;
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
        proxy_ssl_server_name on;
        proxy_ssl_protocols TLSv1.2 TLSv1.3;

        location = /ready {{ return 200; }}
        location ~ ^/ws/(\\d+)/ {{ proxy_pass http://127.0.0.1:$1; }}
        location ~ ^/wss/(\\d+)/ {{ proxy_pass https://127.0.0.1:$1; }}
    }}
}}
"""

    def command(self, program, directory, config, numbers):
        # Listening sockets that it is to take over, as it hands them to itself when its program is replaced.
        inherited = "".join(f"{number};" for number in numbers.values())
        return [program, "-p", str(directory), "-e", str(directory / "log"), "-c", str(config)], {"NGINX": inherited}


class Haproxy(Proxy):
    name = "haproxy"
    config = """
global
    maxconn 512
    ca-base {certificates}

defaults
    mode http
    timeout connect 30s
    timeout client 60s
    timeout server 60s
    timeout tunnel 600s

frontend clients
    bind fd@{ws_fd}
    bind fd@{wss_fd} ssl crt {directory}/both.pem
    http-request return status 200 if {{ path /ready }}
    use_backend wss if {{ path_beg /wss/ }}
    default_backend ws

backend ws
    http-request set-dst-port path,field(3,/)
    server server 127.0.0.1:0

backend wss
    http-request set-dst-port path,field(3,/)
    server server 127.0.0.1:0 ssl verify required ca-file root.pem sni str(localhost) verifyhost localhost
"""

    def command(self, program, directory, config, numbers):
        return [program, "-db", "-f", str(config)], {}


def _path():
    """Where Debian puts daemons, which need not be in a user's path."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


PATHS = {path.name: path for path in (Direct(), Nginx(), Haproxy())}
