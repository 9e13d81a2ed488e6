//! The outside world in one program: Gemini, Whaticket and receivers of webhooks, in their real wire formats, with
//! faults on demand.
//!
//! For development, tests and the demo; never part of a production image. Nothing leaves this process: a "sent"
//! message is a line in a log. Point the real clients' base URLs here and nothing else changes.
//!
//! | file | holds |
//! |---|---|
//! | `server.rs` | routes, connections, how a connection is cut |
//! | `exchange.rs` | the way of every request: fault → effect → log → wait → answer |
//! | `gemini.rs`, `whaticket.rs`, `webhooks.rs` | the wire formats, with their sources |
//! | `secretary/`, `structured.rs` | the stand-in model: rules, facts of a business, JSON answers |
//! | `faults/`, `journal.rs`, `settings.rs` | what is scripted, what happened, what can be tuned |
//! | `control.rs` | the same three over HTTP, under `/_sandbox` |

mod control;
mod exchange;
mod faults;
mod gemini;
mod journal;
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

pub use faults::{Fault, FaultRule, Match, RuleRefused, Standing};
pub use journal::{Entry, Filter, Target};
pub use settings::{Settings, SettingsChange};
pub use webhooks::{Receiver, ReceiverRefused};

use exchange::Desk;

/// How long a stop waits for answers under way. Scripted waits end at once, so only a stuck socket takes it all.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// A running sandbox. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    desk: Arc<Desk>,
    serving: JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Listens on `addr` (port 0 picks a free one) and serves on a task of the caller's runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    #[expect(clippy::disallowed_methods, reason = "the sandbox stands outside: it knows nothing of platform::task")]
    pub async fn start(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let desk = Arc::new(Desk::new(Settings::default()));
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&desk)));
        Ok(Self { addr, desk, serving })
    }

    /// `http://host:port`, without a slash at the end; the base URL of every provider here.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Scripts a fault behind those already scripted; returns its id.
    ///
    /// # Errors
    /// The rule cannot be spoken over HTTP, or there are too many.
    pub fn fault(&self, rule: FaultRule) -> Result<u64, RuleRefused> {
        self.desk.faults.add(rule)
    }

    /// The faults scripted, with what is left of each.
    #[must_use]
    pub fn faults(&self) -> Vec<Standing> {
        self.desk.faults.list()
    }

    /// Changes latencies and token lifetime; returns all figures now in force.
    pub fn settings(&self, change: SettingsChange) -> Settings {
        self.desk.change(change)
    }

    /// Makes a receiver of webhooks under `/webhooks/{name}`, or gives it other secrets.
    ///
    /// # Errors
    /// A secret is no secret, or there are too many receivers.
    pub fn receive(&self, name: &str, receiver: &Receiver) -> Result<(), ReceiverRefused> {
        self.desk.receivers.put(name, receiver)
    }

    /// Refuses every login token issued so far.
    pub fn revoke_tokens(&self) {
        self.desk.sessions.revoke();
    }

    /// The entries that fit, oldest first.
    #[must_use]
    pub fn log(&self, filter: &Filter) -> Vec<Entry> {
        self.desk.journal.list(filter)
    }

    /// How many entries fit.
    #[must_use]
    pub fn count(&self, filter: &Filter) -> usize {
        self.desk.journal.count(filter)
    }

    /// Waits until at least `at_least` entries fit and returns them all; none if `within` passes first.
    pub async fn seen(&self, filter: &Filter, at_least: usize, within: Duration) -> Option<Vec<Entry>> {
        self.desk.journal.seen(filter, at_least, within).await
    }

    /// Forgets the log and the faults; settings, tokens and receivers stay.
    pub fn clear(&self) {
        self.desk.journal.clear();
        self.desk.faults.clear();
    }

    /// Stops listening and ends every connection; requests still waiting get no answer.
    ///
    /// # Errors
    /// The listener failed while it ran.
    pub async fn stop(mut self) -> io::Result<()> {
        self.desk.stop.cancel();
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
        self.desk.stop.cancel();
    }
}
