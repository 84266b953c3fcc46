//! `sandbox`, and `serve --sandbox`: a sandbox Telegram in this process, and the service that joins it.

use telegram_connector::config::{SandboxFlags, SandboxListenFlags};
use telegram_connector::lifecycle::OffsetClock;
use telegram_connector::sandbox::{NewBot, NewPerson, Sandbox, Settings, WorldError};

use super::{
    Arc, Duration, Failure, Ids, Mode, Network, Secret, Serve, SocketAddr, Tasks, any_credentials, os_seed,
    reach, say, serve_until_stopped, settings, stop_on_signal,
};

/// The people of a fresh sandbox.
const PEOPLE: [(&str, &str, &str); 3] = [
    ("+15550100001", "Alice", "alice_sandbox"),
    ("+15550100002", "Bob", "bob_sandbox"),
    ("+15550100003", "Carol", "carol_sandbox"),
];

/// The user name of its bot.
const BOT: &str = "demo_login_bot";

fn sandbox_settings(data_dir: std::path::PathBuf, listen: &SandboxListenFlags) -> Settings {
    let mut settings = Settings::new(data_dir, listen.sandbox_listen);
    settings.dc_listen = listen.sandbox_dc_listen;
    settings.advertise = listen.sandbox_advertise;
    settings.public = listen.sandbox_public;
    settings
}

/// `sandbox`: only the sandbox Telegram, empty at first.
pub(super) async fn run(flags: SandboxFlags) -> Result<(), Failure> {
    let tasks = Tasks::new();
    let stopping = stop_on_signal(&tasks)?;
    let settings = sandbox_settings(flags.data_dir, &flags.listen);
    let ids = Ids::from_seed(os_seed()?);
    let sandbox = Sandbox::start(settings, OffsetClock::default(), ids, &tasks).await?;
    say(&format!("Sandbox Telegram: http://{}/docs", sandbox.control_address()));
    tasks.stopping().cancelled().await;
    tasks.finish(Duration::from_secs(4)).await;
    drop(stopping);
    Ok(())
}

/// `serve --sandbox`: the service and a sandbox with three people and a bot.
pub(super) async fn serve_embedded(serve: Serve, ids: Ids, tasks: Tasks) -> Result<(), Failure> {
    let clock = OffsetClock::default();
    // Tasks of its own: the sandbox outlives the service, as Telegram does.
    let world = Tasks::new();
    let place = sandbox_settings(serve.data_dir.join("sandbox"), &serve.embedded);
    let sandbox = Sandbox::start(place, clock.clone(), ids.clone(), &world).await?;
    let demo_bot = populate(&sandbox)?;
    let joined = sandbox.network();
    let network = Network::other(joined.dcs.into_iter().collect(), &joined.rsa_public_key)?;
    let (api_id, api_hash) = any_credentials();
    let mut settings = settings(&serve, Mode::Sandbox, reach(&serve, api_id, api_hash, network)?);
    settings.bot_token = settings.bot_token.or(demo_bot);
    settings.apps.demo = true;
    if serve.apps.link_base.is_none() {
        settings.apps.link_base = format!("http://{}", sandbox.control_address());
    }
    let announce = |service| say(&welcome(service, sandbox.control_address()));
    let served = serve_until_stopped(settings, Arc::new(clock), ids, tasks, announce).await;
    world.finish(Duration::from_secs(1)).await;
    served
}

/// Adds the people and the bot that are not there yet: an earlier start may have been cut short. Returns the bot's
/// token, which the sandbox keeps; none after somebody has emptied it and given the name to another.
fn populate(sandbox: &Sandbox) -> Result<Option<Secret<String>>, Failure> {
    let unless_there = |added: Result<(), WorldError>| match added {
        Err(WorldError::PhoneOccupied | WorldError::UsernameOccupied) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    };
    for (phone, first_name, username) in PEOPLE {
        let person = NewPerson {
            phone: phone.to_owned(),
            first_name: first_name.to_owned(),
            username: Some(username.to_owned()),
            ..NewPerson::default()
        };
        unless_there(sandbox.add_person(person).map(drop))?;
    }
    let bot = NewBot { username: BOT.to_owned(), name: "Demo login".to_owned(), dc: None };
    unless_there(sandbox.add_bot(bot).map(drop))?;
    Ok(sandbox.bot(BOT).map(|bot| Secret::new(bot.token)))
}

fn welcome(service: SocketAddr, control: SocketAddr) -> String {
    let people: Vec<String> =
        PEOPLE.iter().map(|(phone, name, _)| format!("    {phone}  {name}\n")).collect();
    let people = people.concat();
    format!(
        "telegram-connector with a sandbox Telegram of its own\n\n  \
             Try it              http://{service}/demo\n  \
             Virtual phone       http://{control}/\n  \
             Swagger UI          http://{service}/docs\n  \
             Sandbox control     http://{control}/docs\n  \
             People of the sandbox\n{people}\n  \
             Sign in:\n    \
             curl -i http://{service}/sign_in -H 'Content-Type: application/json' -d '{{\"phone\": \"+15550100001\"}}'\n    \
             curl http://{control}/api/accounts/+15550100001/code\n    \
             curl -i http://{service}/sign_in -H 'Content-Type: application/json' \
             -d '{{\"phone\": \"+15550100001\", \"password\": \"<the code>\"}}'\n"
    )
}
