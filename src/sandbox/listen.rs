//! What a sandbox needs before it can serve: its RSA key and its listeners.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::path::Path;

use tokio::net::TcpListener;

use crate::domain::ids::Ids;

use super::SandboxError;
use super::Settings;
use super::journal;
use super::wire::rsa_key::RsaKey;
use super::world::DATA_CENTRES;

/// The key in the settings, else the kept one, else a new one.
pub(super) async fn rsa_key(settings: &Settings, ids: &Ids) -> Result<RsaKey, SandboxError> {
    let path = settings.data_dir.join("rsa_key.pem");
    let bad = |path: &Path, reason: String| SandboxError::RsaKey { path: path.to_owned(), reason };
    if let Some(pem) = &settings.rsa_key_pem {
        return RsaKey::from_pem(pem).map_err(|error| bad(Path::new("the given RSA key"), error.to_string()));
    }
    let pem = match std::fs::read_to_string(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let ids = ids.clone();
            let pem = tokio::task::spawn_blocking(move || RsaKey::generate(&ids))
                .await
                .map_err(|error| bad(&path, error.to_string()))?
                .map_err(|error| bad(&path, error.to_string()))?;
            keep_private(&path, &pem).map_err(|source| SandboxError::File { path: path.clone(), source })?;
            pem
        }
        Err(source) => return Err(SandboxError::File { path, source }),
    };
    RsaKey::from_pem(&pem).map_err(|error| bad(&path, error.to_string()))
}

/// Writes a file that only its owner may read, whole or not at all.
fn keep_private(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = journal::private_file(&temporary)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

type Listener = (i32, SocketAddrV4, TcpListener);

/// Listens for every data centre: at the set address, else where it listened before, else at a free port.
pub(super) async fn listen(
    settings: &Settings,
    kept: &[(i32, SocketAddrV4)],
) -> Result<Vec<Listener>, SandboxError> {
    let mut listeners = Vec::new();
    for dc in DATA_CENTRES {
        let address = if let Some(base) = settings.dc_listen {
            let port = u16::try_from(dc).ok().and_then(|dc| base.port().checked_add(dc));
            let port = port.ok_or(SandboxError::DataCentreAddress(base))?;
            SocketAddr::new(base.ip(), port)
        } else {
            let before = |(id, address): &&(i32, SocketAddrV4)| *id == dc && address.ip().is_loopback();
            let free = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
            SocketAddr::V4(kept.iter().find(before).map_or(free, |(_, address)| *address))
        };
        let listener = bind("data centre", address).await?;
        match listener.local_addr() {
            Ok(SocketAddr::V4(address)) => listeners.push((dc, address, listener)),
            Ok(SocketAddr::V6(_)) | Err(_) => return Err(SandboxError::DataCentreAddress(address)),
        }
    }
    Ok(listeners)
}

pub(super) async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, SandboxError> {
    TcpListener::bind(address).await.map_err(|source| SandboxError::Listen { what, address, source })
}

/// What clients are told: the set address, else the one listened on, else loopback when that is all of them.
pub(super) fn advertised(listening: SocketAddrV4, advertise: Option<Ipv4Addr>) -> SocketAddrV4 {
    let own = if listening.ip().is_unspecified() { Ipv4Addr::LOCALHOST } else { *listening.ip() };
    SocketAddrV4::new(advertise.unwrap_or(own), listening.port())
}
