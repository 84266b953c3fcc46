"""An unmodified Telethon on strings: telethon.rs says what to do, this does it.

A command is a line of JSON on stdin, {"do": name, ...arguments}; its answer is a line of JSON on stdout: {"ok": value},
{"error": the name of Telethon's exception} for what Telegram refuses, {"failed": text} for anything else.
The only argument is what the sandbox's GET /api/server said.
"""

import asyncio
import json
import sys
import traceback

from telethon import TelegramClient, errors, events, network
from telethon.crypto import rsa
from telethon.sessions import StringSession

# Longer than anything takes that works: a command that hangs is an answer, too.
LIMIT_SECONDS = 60


def shown(user):
    return {"id": user.id, "phone": user.phone, "first_name": user.first_name, "bot": user.bot}


class Driver:
    def __init__(self, server):
        # Telethon looks keys up by fingerprint; `old` keys are the ones padded the old way.
        rsa.add_key(server["rsa_public_key"], old=False)
        self.addresses = {entry["id"]: entry["address"].rsplit(":", 1) for entry in server["dcs"]}
        self.devices = {}
        self.inboxes = {}

    async def connect(self, device, dc=2, session="", framing="Full"):
        """A client of its own, new at `dc` or with a session that was saved, in one of Telethon's framings."""
        kept = StringSession(session)
        if not session:
            host, port = self.addresses[dc]
            kept.set_dc(dc, host, int(port))
        client = TelegramClient(kept, 1, "0" * 32, connection=getattr(network, "ConnectionTcp" + framing))
        inbox = asyncio.Queue()
        client.add_event_handler(inbox.put, events.NewMessage(incoming=True))
        await client.connect()
        self.devices[device], self.inboxes[device] = client, inbox

    async def send_code(self, device, phone):
        sent = await self.devices[device].send_code_request(phone)
        return {"type": type(sent.type).__name__, "length": sent.type.length}

    async def sign_in(self, device, **arguments):
        return shown(await self.devices[device].sign_in(**arguments))

    async def is_authorised(self, device):
        return await self.devices[device].is_user_authorized()

    async def who(self, device):
        return shown(await self.devices[device].get_me())

    async def data_centre(self, device):
        return self.devices[device].session.dc_id

    async def next_message(self, device):
        event = await self.inboxes[device].get()
        return {"from": event.sender_id, "text": event.raw_text}

    async def save(self, device):
        return self.devices[device].session.save()

    async def log_out(self, device):
        return await self.devices[device].log_out()

    async def disconnect(self, device):
        await self.devices.pop(device).disconnect()

    async def answer(self, command):
        try:
            action = getattr(self, command.pop("do"))
            return {"ok": await asyncio.wait_for(action(**command), LIMIT_SECONDS)}
        except errors.RPCError as refusal:
            return {"error": type(refusal).__name__}
        except Exception:
            return {"failed": traceback.format_exc()}


async def main():
    driver = Driver(json.loads(sys.argv[1]))
    loop = asyncio.get_running_loop()
    # Off the event loop, which Telethon needs meanwhile.
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await driver.answer(json.loads(line))), flush=True)
    for client in driver.devices.values():
        await client.disconnect()


asyncio.run(main())
