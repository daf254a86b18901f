"""The real servers, run by hand in the server's namespace with files in a temporary folder.

They live in a mount namespace of their own, where a temporary account file hides the machine's accounts:
the lab needs a user with a password, and the machine must not get one.
"""

import os
import subprocess

from shell import inside, run

USER = "labuser"
PASSWORD = "correct-horse-7"
HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = {"tiny": 180, "small": 1400, "page": 9000, "image": 48000, "photo": 180000, "doc": 600000, "big": 1600000}

NGINX = """
worker_processes 1; daemon off; pid {t}/nginx.pid; error_log {t}/nginx-error.log;
events {{ worker_connections 2048; }}
http {{
    access_log off; client_body_temp_path {t}/body; proxy_temp_path {t}/proxy; fastcgi_temp_path {t}/fastcgi;
    uwsgi_temp_path {t}/uwsgi; scgi_temp_path {t}/scgi; default_type application/octet-stream;
    client_max_body_size 50m; keepalive_timeout 20s; client_header_timeout 40s; client_body_timeout 40s;
    server {{
        listen 0.0.0.0:80; listen 0.0.0.0:8080; listen [::]:80; listen [::]:8080; root {t}/www;
        location /drip/ {{ alias {t}/www/; limit_rate 6k; }}
        location /upload {{ client_body_in_file_only off; return 200 "stored\\n"; }}
        location /put/ {{ root {t}/www; dav_methods PUT; create_full_put_path on; }}
        location /private/ {{ alias {t}/www/; auth_basic lab; auth_basic_user_file {t}/htpasswd; }}
    }}
}}
"""

SSHD = """
Port 22
HostKey {t}/host_key
PidFile {t}/sshd.pid
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM yes
AuthorizedKeysFile {t}/home/authorized_keys
StrictModes no
MaxStartups 200
LoginGraceTime 30
PerSourceMaxStartups none
Subsystem sftp internal-sftp
"""

VSFTPD = """
listen=NO
listen_ipv6=YES
background=NO
anonymous_enable=NO
local_enable=YES
write_enable=YES
secure_chroot_dir={t}/empty
pam_service_name=vsftpd
pasv_min_port=41000
pasv_max_port=41400
delay_failed_login=1
max_per_ip=100
seccomp_sandbox=NO
allow_writeable_chroot=YES
"""

DNSMASQ = """
no-daemon
no-resolv
no-hosts
user=root
bind-interfaces
interface=eth0
pid-file={t}/dnsmasq.pid
cache-size=0
address=/web.lab.test/10.77.3.1
address=/web.lab.test/fd77:0:0:3::1
txt-record=long.lab.test,{text}
mx-host=lab.test,mail.lab.test,10
auth-ttl=60
local=/lab.test/
"""


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def prepare(folder):
    """Writes contents, keys, configuration and the accounts of the lab."""
    for name in ("www", "www/put", "home", "empty", "run"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    os.chmod(folder, 0o755)
    for name, size in SIZES.items():
        with open(os.path.join(folder, "www", name), "wb") as file:
            file.write(os.urandom(size))
        with open(os.path.join(folder, "home", name), "wb") as file:
            file.write(os.urandom(size))
    for key in ("host_key", "client_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{key}")
    with open(f"{folder}/client_key.pub", encoding="utf-8") as key:
        _write(f"{folder}/home/authorized_keys", key.read())
    crypt = run("openssl", "passwd", "-6", PASSWORD).stdout.strip()
    apr = run("openssl", "passwd", "-apr1", PASSWORD).stdout.strip()
    _write(f"{folder}/htpasswd", f"{USER}:{apr}\n")
    for name, line in (("passwd", f"{USER}:x:2077:2077::{folder}/home:/bin/sh"), ("shadow", f"{USER}:{crypt}:19000:0:99999:7:::"),
                       ("group", f"{USER}:x:2077:")):
        with open(f"/etc/{name}", encoding="utf-8") as file:
            _write(f"{folder}/{name}", file.read().rstrip("\n") + "\n" + line + "\n")
    run("chown", "-R", "2077:2077", f"{folder}/home", f"{folder}/www/put")
    run("chown", "root:shadow", f"{folder}/shadow")
    os.chmod(f"{folder}/shadow", 0o640)
    os.chmod(f"{folder}/www/put", 0o777)
    _write(f"{folder}/nginx.conf", NGINX.format(t=folder))
    _write(f"{folder}/sshd_config", SSHD.format(t=folder))
    _write(f"{folder}/vsftpd.conf", VSFTPD.format(t=folder))
    _write(f"{folder}/dnsmasq.conf", DNSMASQ.format(t=folder, text=",".join(["abcdefgh" * 25] * 4)))
    _write(f"{folder}/words", "\n".join(f"guess{n}" for n in range(400)) + "\n")


def start(lab, processes, folder):
    """Starts every server; all end with `processes`."""
    hide = (
        "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/sshd /run/vsftpd/empty && "
        f"for f in passwd shadow group; do mount --bind {folder}/$f /etc/$f; done && exec \"$@\""
    )

    def serve(name, *words):
        processes.start(name, *inside(lab.server, "unshare", "-m", "sh", "-c", hide, "sh", *words))

    serve("nginx", "nginx", "-c", f"{folder}/nginx.conf")
    serve("sshd", "/usr/sbin/sshd", "-D", "-e", "-f", f"{folder}/sshd_config")
    serve("dnsmasq", "dnsmasq", "-C", f"{folder}/dnsmasq.conf")
    for version in (4, 6):
        for number, address in enumerate(lab.servers(version)):
            serve(f"iperf{version}-{number}", "iperf3", "-s", "-B", address, "-p", str(5201 + number))
    serve("vsftpd", "vsftpd", f"{folder}/vsftpd.conf")
    for name, host in (("smtp4", "0.0.0.0"), ("smtp6", "::")):
        serve(name, "/usr/bin/python3", "-m", "aiosmtpd", "-n", "-l", f"{host}:25", "-c", "aiosmtpd.handlers.Sink")
    serve("small", "/usr/bin/python3", f"{HERE}/small_services.py", *lab.servers(4), *lab.servers(6))


def listening(lab):
    """What the servers listen on, for the log."""
    return subprocess.run(inside(lab.server, "ss", "-lntu"), capture_output=True, text=True, check=False).stdout
