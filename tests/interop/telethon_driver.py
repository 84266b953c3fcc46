"""An unmodified Telethon on strings: telethon.rs says what to do, this does it.

A command is a line of JSON on stdin, {"do": name, ...arguments}; its answer is a line of JSON on stdout: {"ok": value},
{"error": the name of Telethon's exception} for what Telegram refuses, {"failed": text} for anything else.
The only argument is what the sandbox's GET /api/server said.
"""

import asyncio
import json
import sys
import traceback
from urllib.parse import unquote, urlsplit

from telethon import TelegramClient, errors, events, functions, network, types
from telethon.crypto import rsa
from telethon.sessions import StringSession

# Longer than anything takes that works: a command that hangs is an answer, too.
LIMIT_SECONDS = 60


def shown(user):
    return {"id": user.id, "phone": user.phone, "first_name": user.first_name, "bot": user.bot}


async def read(message):
    """What a person sees of a message."""
    rows = await message.get_buttons() or []
    return {
        "id": message.id,
        "out": message.out,
        "from": message.sender_id,
        "text": message.raw_text,
        # Telethon's own counting: what it would show as code.
        "code": [part for _, part in message.get_entities_text(types.MessageEntityCode)],
        "buttons": [[button.text for button in row] for row in rows],
        "markup": message.reply_markup and type(message.reply_markup).__name__,
    }


def link_parts(link):
    """To whom a link leads and what it says, as https://core.telegram.org/api/links has it: a plus is a plus."""
    parts = urlsplit(link)
    query = {name: unquote(value) for name, value in (pair.split("=", 1) for pair in parts.query.split("&"))}
    return query.pop("domain", None) or parts.path.strip("/"), query


class Driver:
    def __init__(self, server):
        # Telethon looks keys up by fingerprint; `old` keys are the ones padded the old way.
        rsa.add_key(server["rsa_public_key"], old=False)
        self.addresses = {entry["id"]: entry["address"].rsplit(":", 1) for entry in server["dcs"]}
        self.devices = {}
        self.inboxes = {}
        self.edits = {}
        # The messages themselves, by device and id: they have the buttons that can be pressed.
        self.messages = {}

    async def connect(self, device, dc=2, session="", framing="Full"):
        """A client of its own, new at `dc` or with a session that was saved, in one of Telethon's framings."""
        kept = StringSession(session)
        if not session:
            host, port = self.addresses[dc]
            kept.set_dc(dc, host, int(port))
        client = TelegramClient(kept, 1, "0" * 32, connection=getattr(network, "ConnectionTcp" + framing))
        inbox, edits = asyncio.Queue(), asyncio.Queue()
        client.add_event_handler(inbox.put, events.NewMessage(incoming=True))
        client.add_event_handler(edits.put, events.MessageEdited(incoming=True))
        await client.connect()
        self.devices[device], self.inboxes[device], self.edits[device] = client, inbox, edits

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
        """The next message that somebody else wrote."""
        return await self.kept(device, (await self.inboxes[device].get()).message)

    async def next_edit(self, device):
        """The next message of somebody else that was changed, as it is now."""
        return await self.kept(device, (await self.edits[device].get()).message)

    async def kept(self, device, message):
        self.messages[device, message.id] = message
        return await read(message)

    async def open(self, device, link, typed=False):
        """Opens a link as an app does, or types the start parameter as somebody without one; the id of what it sent."""
        client = self.devices[device]
        to, query = link_parts(link)
        if "start" not in query:
            return (await client.send_message(to, query["text"], parse_mode=None)).id
        if typed:
            return (await client.send_message(to, "/start " + query["start"], parse_mode=None)).id
        bot = await client.get_input_entity(to)
        request = functions.messages.StartBotRequest(bot=bot, peer=bot, start_param=query["start"])
        updates = (await client(request)).updates
        return next(update.id for update in updates if isinstance(update, types.UpdateMessageID))

    async def say(self, device, to, text, reply_to=None):
        return (await self.devices[device].send_message(to, text, reply_to=reply_to, parse_mode=None)).id

    async def click(self, device, message, button):
        """Presses a button by its text. One that asks for the phone number shares it."""
        done = await self.messages[device, message].click(text=button, share_phone=True)
        if isinstance(done, types.messages.BotCallbackAnswer):
            return {"answer": done.message, "alert": done.alert}
        assert done is not None, "there is no such button, or the bot did not answer"
        return {"sent": done.id}

    async def send_contact(self, device, to, phone, first_name):
        """Writes a contact, anybody's, with the raw request."""
        client = self.devices[device]
        contact = types.InputMediaContact(phone_number=phone, first_name=first_name, last_name="", vcard="")
        peer = await client.get_input_entity(to)
        await client(functions.messages.SendMediaRequest(peer=peer, media=contact, message=""))

    async def history(self, device, chat):
        """What a chat holds, oldest first."""
        return [await read(message) async for message in self.devices[device].iter_messages(chat, reverse=True)]

    async def leave(self, device):
        """Loses its connection, and keeps its session."""
        await self.devices[device].disconnect()

    async def come_back(self, device):
        """Connects again and asks what happened meanwhile."""
        await self.devices[device].connect()
        await self.devices[device].catch_up()

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
