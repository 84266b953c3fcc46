//! Tells devices what happened to their accounts, in the order in which it happened.

use grammers_tl_types as tl;
use tl::Serializable;

use crate::domain::clock::Clock;
use crate::sandbox::objects;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::DeviceId;
use crate::sandbox::world::Event;
use crate::sandbox::world::World;

use super::Hub;

impl Hub {
    /// Pushes an event to the devices that it concerns and that are connected.
    pub(super) fn tell(&self, world: &World, event: &Event) {
        let now = self.clock.now();
        match *event {
            Event::NewMessage { account, message, except } => {
                self.push(world, account, except, || objects::new_message(world, account, message));
            }
            Event::EditedMessage { account, message, except } => {
                self.push(world, account, except, || objects::changed_message(world, account, message));
            }
            Event::DeletedMessage { account, message, pts, except } => {
                let deletion = || Some(objects::deletion(world, account, message, pts, now));
                self.push(world, account, except, deletion);
            }
            Event::Pressed(ref query) => {
                self.push(world, query.bot, None, || Some(objects::callback_query(world, query, now)));
            }
            Event::Renamed { account, except } => {
                self.push(world, account, except, || objects::renamed(world, account, now));
            }
            // They find out with their next call: that is what Telegram's clients see, too.
            Event::DevicesEnded(_) => {}
        }
    }

    fn push(
        &self,
        world: &World,
        account: AccountId,
        except: Option<DeviceId>,
        updates: impl FnOnce() -> Option<tl::enums::Updates>,
    ) {
        let mut devices = world.signed_in_devices(account);
        devices.retain(|device| Some(*device) != except);
        let sessions = self.live.listening(&devices);
        // A push to nobody is none that could be lost.
        if sessions.is_empty() || self.faults.drop_push() {
            return;
        }
        let Some(body) = updates().map(|updates| updates.to_bytes()) else {
            return;
        };
        for session in sessions {
            session.send(crate::sandbox::wire::session::Kind::Push, body.clone());
        }
    }
}
