"""Dovecot: a mail store that takes mail by LMTP and gives it out by IMAP."""

from __future__ import annotations

import pwd
import shutil
import smtplib
import socket
import subprocess
import time
from pathlib import Path

from benchmarks.processes import end
from benchmarks.servers import free_port
from tests.servers import missing

PASSWORD = "a-password-of-this-test"

_CONFIG = """
protocols = imap lmtp
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{folder}/mail/%n
mail_uid = {user}
mail_gid = {user}
first_valid_uid = 1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={folder}/home/%n
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
"""


class Dovecot:
    """A server with a mailbox for everybody, all with PASSWORD."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin")
        if program is None:
            missing("Dovecot is not installed: apt-get install dovecot-imapd dovecot-lmtpd")
        if not Path("/usr/lib/dovecot/lmtp").exists():
            missing("Dovecot's LMTP is not installed: apt-get install dovecot-lmtpd")
        self.imap_port, self.lmtp_port = free_port(), free_port()
        for name in ("mail", "home"):
            (folder / name).mkdir(parents=True)
            shutil.chown(folder / name, "mail", "mail")
        for parent in (folder, *folder.parents):
            if str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o011)
        config = folder / "dovecot.conf"
        config.write_text(
            _CONFIG.format(
                folder=folder,
                user=pwd.getpwnam("mail").pw_uid,
                password=PASSWORD,
                imap=self.imap_port,
                lmtp=self.lmtp_port,
            )
        )
        self._log = folder / "log"
        self._process = subprocess.Popen([program, "-F", "-c", str(config)])
        deadline = time.monotonic() + 20
        while not all(_listens(port) for port in (self.imap_port, self.lmtp_port)):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"Dovecot did not start: {self._log.read_text() if self._log.exists() else ''}")
            time.sleep(0.05)

    def deliver(self, user: str, *messages: bytes) -> None:
        """Put messages into a user's mailbox, as a mail server would."""
        with smtplib.LMTP("127.0.0.1", self.lmtp_port) as lmtp:
            for raw in messages:
                lmtp.sendmail("sender@example.com", [f"{user}@example.com"], raw)

    def stop(self) -> None:
        """End it and its helpers."""
        end(self._process)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
