//! How much the service bears: connections, polls, new sessions.

use clap::Args;

/// Flags of `serve` that limit what callers may do. None of them is wrong.
#[derive(Clone, Copy, Debug, Args)]
pub struct LimitFlags {
    /// Connections at once; never more than three quarters of the files that the system lets the process open.
    #[arg(long, env = "CONNECTOR_MAX_CONNECTIONS", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(16..))]
    pub max_connections: u32,
    /// Polls per second of one session token. More are delayed, up to 1 s; ten times as many are refused (429). 0: no limit.
    #[arg(long, env = "CONNECTOR_POLLS_PER_SECOND", default_value_t = 20)]
    pub polls_per_second: u32,
    /// New sessions per minute of one project for one client address, twice as many at once; a hundred times as many of one
    /// project for all addresses. 0: no limit. Programs on this machine have none.
    #[arg(long, env = "CONNECTOR_CREATES_PER_MINUTE", default_value_t = 60)]
    pub creates_per_minute: u32,
}
