//! A Telegram of its own: data centres that speak MTProto over TCP, with people and bots that an HTTP API plays.
//! It knows nothing of the service; they meet on the wire. Start it with [`Sandbox::start`].

mod conn;
mod console;
mod faults;
mod host;
mod hub;
mod journal;
mod listen;
mod objects;
mod rpc;
mod wire;
mod world;

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::ids::Ids;
use crate::lifecycle::OffsetClock;
use crate::lifecycle::Tasks;

use hub::Hub;
use hub::Kept;
use hub::Parts;
use journal::Journal;
use wire::srp::Verifier;
use world::BotProfile;
use world::PersonProfile;

pub use journal::JournalError;
pub use world::WorldError;

/// How a sandbox is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the RSA key and the journal are kept; made when it does not exist.
    pub data_dir: PathBuf,
    /// Where the control API listens; port 0 takes a free one.
    pub control_listen: SocketAddr,
    /// Base address of the data centres: data centre n listens on the port n above it. `None`: loopback ports chosen at
    /// first start and kept.
    pub dc_listen: Option<SocketAddr>,
    /// The address clients are told instead of the one listened on.
    pub advertise: Option<Ipv4Addr>,
    /// Whether listeners may be other than loopback.
    pub public: bool,
    /// An RSA private key (2048 bits, PKCS#1 PEM) to use instead of the kept one.
    pub rsa_key_pem: Option<String>,
    hosts: host::Hosts,
    limits: conn::Limits,
}

impl Settings {
    /// Loopback only, ports and key of its own.
    pub fn new(data_dir: impl Into<PathBuf>, control_listen: SocketAddr) -> Self {
        Self {
            data_dir: data_dir.into(),
            control_listen,
            dc_listen: None,
            advertise: None,
            public: false,
            rsa_key_pem: None,
            hosts: host::Hosts::default(),
            limits: conn::Limits::default(),
        }
    }
}

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("{0} is not a loopback address: the sandbox lets anyone in, so this needs --sandbox-public")]
    NotLoopback(SocketAddr),
    #[error("{what} {address}: {source}; another program may have taken it")]
    Listen { what: &'static str, address: SocketAddr, source: io::Error },
    #[error("{0}: data centres listen on IPv4 addresses and ports up to 65530")]
    DataCentreAddress(SocketAddr),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}")]
    RsaKey { path: PathBuf, reason: String },
    #[error("{0}: a key in it cannot be read; move the file away to start with an empty sandbox")]
    DamagedKey(PathBuf),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// All that a client needs to join.
#[derive(Clone, Debug)]
pub struct Network {
    /// The data centres by id, as clients reach them.
    pub dcs: Vec<(i32, SocketAddrV4)>,
    /// The public RSA key, PKCS#1 PEM.
    pub rsa_public_key: String,
}

/// A person to make.
#[derive(Clone, Debug, Default)]
pub struct NewPerson {
    /// 7 to 15 digits, with or without a plus sign.
    pub phone: String,
    pub first_name: String,
    pub last_name: Option<String>,
    pub username: Option<String>,
    pub two_factor_password: Option<String>,
    pub lang_code: Option<String>,
    /// The data centre where the account lives; 2 unless stated.
    pub dc: Option<i32>,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: i64,
    /// With a plus sign.
    pub phone: String,
    pub first_name: String,
    pub last_name: Option<String>,
    pub username: Option<String>,
    pub dc: i32,
    pub two_factor: bool,
}

/// A bot to make.
#[derive(Clone, Debug, Default)]
pub struct NewBot {
    pub username: String,
    pub name: String,
    /// The data centre where the bot lives; 2 unless stated.
    pub dc: Option<i32>,
}

/// A bot.
#[derive(Clone, PartialEq, Eq)]
pub struct Bot {
    pub id: i64,
    pub username: String,
    pub name: String,
    /// What `auth.importBotAuthorization` takes.
    pub token: String,
    pub dc: i32,
}

impl std::fmt::Debug for Bot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Bot({}, @{})", self.id, self.username)
    }
}

/// A running sandbox. Cloning shares it; it ends with the `Tasks` it was started with.
#[derive(Clone, Debug)]
pub struct Sandbox {
    hub: Arc<Hub>,
    control: SocketAddr,
    new: bool,
}

impl Sandbox {
    /// Reads what was kept, listens, and serves until `tasks` stop. The clock is moved to where it was.
    ///
    /// # Errors
    /// When an address is taken or not allowed, or when what was kept cannot be read.
    pub async fn start(
        settings: Settings,
        clock: OffsetClock,
        ids: Ids,
        tasks: &Tasks,
    ) -> Result<Self, SandboxError> {
        for address in [Some(settings.control_listen), settings.dc_listen].into_iter().flatten() {
            if !settings.public && !address.ip().is_loopback() {
                return Err(SandboxError::NotLoopback(address));
            }
        }
        std::fs::create_dir_all(&settings.data_dir)
            .map_err(|source| SandboxError::File { path: settings.data_dir.clone(), source })?;
        let rsa = listen::rsa_key(&settings, &ids).await?;
        let path = settings.data_dir.join("journal");
        let entries = Journal::read(&path)?;
        let new = entries.is_none();
        let kept = Kept::from_entries(entries.unwrap_or_default(), &ids)
            .ok_or_else(|| SandboxError::DamagedKey(path.clone()))?;
        let ahead = kept.clock_offset.saturating_sub(clock.offset_millis());
        clock.advance(Duration::from_millis(u64::try_from(ahead).unwrap_or(0)));

        let listeners = listen::listen(&settings, &kept.data_centres).await?;
        let listening: Vec<(i32, SocketAddrV4)> =
            listeners.iter().map(|(dc, address, _)| (*dc, *address)).collect();
        let control = listen::bind("control API", settings.control_listen).await?;
        let control_address = control.local_addr().map_err(|source| SandboxError::Listen {
            what: "control API",
            address: settings.control_listen,
            source,
        })?;
        let advertised = listening
            .iter()
            .map(|(dc, address)| (*dc, listen::advertised(*address, settings.advertise)))
            .collect();
        let hub = Arc::new(Hub::new(
            Parts {
                rsa,
                ids,
                clock,
                tasks: tasks.clone(),
                hosts: settings.hosts,
                limits: settings.limits,
                data_centres: advertised,
                listening,
                journal: path,
            },
            kept,
        )?);
        for (dc, _, listener) in listeners {
            tasks.spawn_essential("sandbox data centre", conn::accept(Arc::clone(&hub), dc, listener));
        }
        let sandbox = Self { hub, control: control_address, new };
        tasks.spawn_essential(
            "sandbox control API",
            console::serve(sandbox.clone(), control, settings.public),
        );
        Ok(sandbox)
    }

    /// Where the control API listens.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// What a client needs to join.
    pub fn network(&self) -> Network {
        Network { dcs: self.hub.data_centres.clone(), rsa_public_key: self.hub.rsa.public_pem().to_owned() }
    }

    /// Whether nothing was kept from an earlier start.
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// Makes a person. With a two-factor password this takes a tenth of a second.
    ///
    /// # Errors
    /// When a field is malformed or taken.
    pub fn add_person(&self, person: NewPerson) -> Result<Person, WorldError> {
        let password = person
            .two_factor_password
            .filter(|password| !password.is_empty())
            .map(|password| Verifier::new(&password, &self.hub.ids));
        let profile = PersonProfile {
            phone: person.phone,
            first_name: person.first_name,
            last_name: person.last_name,
            username: person.username,
            lang_code: person.lang_code,
            dc: person.dc,
            password,
        };
        self.hub.change(|world| {
            let id = world.add_person(profile)?;
            world.account(id).and_then(Person::of).ok_or(WorldError::NoSuchAccount)
        })
    }

    /// Makes a bot.
    ///
    /// # Errors
    /// When a field is malformed or taken.
    pub fn add_bot(&self, bot: NewBot) -> Result<Bot, WorldError> {
        let profile = BotProfile { username: bot.username, name: bot.name, dc: bot.dc };
        self.hub.change(|world| {
            let id = world.add_bot(profile)?;
            world.account(id).and_then(Bot::of).ok_or(WorldError::NoSuchAccount)
        })
    }
}

impl Sandbox {
    /// The bot with this user name, with the token it was made with.
    pub fn bot(&self, username: &str) -> Option<Bot> {
        let is_meant = |bot: &Bot| bot.username.eq_ignore_ascii_case(username);
        self.hub.look(|world| world.bots().filter_map(Bot::of).find(is_meant))
    }
}

impl Person {
    fn of(account: &world::Account) -> Option<Self> {
        Some(Self {
            id: account.id.0,
            phone: account.phone()?.international(),
            first_name: account.first_name.clone(),
            last_name: account.last_name.clone(),
            username: account.username.clone(),
            dc: account.dc,
            two_factor: account.has_password(),
        })
    }
}

impl Bot {
    fn of(account: &world::Account) -> Option<Self> {
        match &account.nature {
            world::Nature::Bot { token } => Some(Self {
                id: account.id.0,
                username: account.username.clone().unwrap_or_default(),
                name: account.first_name.clone(),
                token: token.clone(),
                dc: account.dc,
            }),
            world::Nature::Person { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
