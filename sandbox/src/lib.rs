//! Stand-ins for external services in one program: Gemini, Whaticket and receivers of webhooks, in their real wire formats,
//! with faults on demand.
//!
//! For development, tests and the demo; never part of a production image. Nothing leaves this process: a "sent"
//! message is a line in a log. Point the real clients' base URLs here and nothing else changes.
//!
//! | file | holds |
//! |---|---|
//! | `server.rs` | routes, connections, how a connection is aborted |
//! | `exchange.rs` | how every request is handled: fault → effect → log → wait → response |
//! | `gemini.rs`, `whaticket.rs`, `webhooks.rs` | the wire formats, with their sources |
//! | `secretary/`, `structured.rs` | the stand-in model: rules, facts of a business, JSON answers |
//! | `faults/`, `request_log.rs`, `settings.rs` | scripted faults, the log of requests, settings |
//! | `control.rs` | the same three over HTTP, under `/_sandbox` |

mod control;
mod exchange;
mod faults;
mod gemini;
mod request_log;
mod secretary;
mod server;
mod settings;
mod structured;
mod webhooks;
mod whaticket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use faults::{Fault, FaultRule, Match, RuleRefused, RuleStatus};
pub use request_log::{Entry, Filter, Target};
pub use settings::{Settings, SettingsChange};
pub use webhooks::{Receiver, ReceiverRefused};

use exchange::SandboxState;

/// How long a stop waits for unfinished responses. Scripted waits end at once, so only a stuck socket takes this long.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// A running sandbox. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    state: Arc<SandboxState>,
    serving: JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Listens on `addr` (port 0 picks a free one) and serves on a task of the caller's runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    #[expect(
        clippy::disallowed_methods,
        reason = "the sandbox does not depend on our crates, so it has no platform::task"
    )]
    pub async fn start(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(SandboxState::new(Settings::default()));
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&state)));
        Ok(Self { addr, state, serving })
    }

    /// `http://host:port`, without a slash at the end; the base URL of every provider here.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Adds a fault rule after those already there; returns its id.
    ///
    /// # Errors
    /// The rule's status or headers are not valid in HTTP, or there are too many rules.
    pub fn fault(&self, rule: FaultRule) -> Result<u64, RuleRefused> {
        self.state.faults.add(rule)
    }

    /// The fault rules, with their remaining times.
    #[must_use]
    pub fn faults(&self) -> Vec<RuleStatus> {
        self.state.faults.list()
    }

    /// Changes latencies and token lifetime; returns all settings then in force.
    pub fn settings(&self, change: SettingsChange) -> Settings {
        self.state.change(change)
    }

    /// Creates a receiver of webhooks at `/webhooks/{name}`, or replaces its secrets.
    ///
    /// # Errors
    /// A secret is malformed, or there are too many receivers.
    pub fn receive(&self, name: &str, receiver: &Receiver) -> Result<(), ReceiverRefused> {
        self.state.receivers.put(name, receiver)
    }

    /// Refuses every login token issued so far.
    pub fn revoke_tokens(&self) {
        self.state.sessions.revoke();
    }

    /// The entries that match, oldest first.
    #[must_use]
    pub fn log(&self, filter: &Filter) -> Vec<Entry> {
        self.state.log.list(filter)
    }

    /// How many entries match.
    #[must_use]
    pub fn count(&self, filter: &Filter) -> usize {
        self.state.log.count(filter)
    }

    /// Waits until at least `at_least` entries match and returns them all; `None` if `within` passes first.
    pub async fn seen(&self, filter: &Filter, at_least: usize, within: Duration) -> Option<Vec<Entry>> {
        self.state.log.seen(filter, at_least, within).await
    }

    /// Clears the log and the faults; settings, tokens and receivers stay.
    pub fn clear(&self) {
        self.state.log.clear();
        self.state.faults.clear();
    }

    /// Stops listening and ends every connection; requests still waiting get no response.
    ///
    /// # Errors
    /// The listener failed while it ran.
    pub async fn stop(mut self) -> io::Result<()> {
        self.state.stop.cancel();
        match tokio::time::timeout(STOP_WITHIN, &mut self.serving).await {
            Ok(Ok(served)) => served,
            Ok(Err(panicked)) => Err(io::Error::other(panicked)),
            Err(_) => {
                self.serving.abort();
                Ok(())
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.state.stop.cancel();
    }
}
