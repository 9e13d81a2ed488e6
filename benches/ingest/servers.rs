//! The two servers as processes of their own: started, watched through `/proc`, ended with us however we end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use platform::clock;
use platform::telemetry;
use secretaria::Settings;

use crate::hooks::Hooks;

/// How long a server may take to start or to end.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What a tick of `/proc/PID/stat` is; Linux shows the same on every machine.
const TICK: Duration = Duration::from_millis(10);

/// A running server; killed when dropped.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    kind: Kind,
}

enum Kind {
    Bare,
    Real { log: PathBuf, says_everything: bool },
}

/// What the real server has written.
pub(crate) struct Log {
    path: PathBuf,
    says_everything: bool,
}

impl Server {
    /// This program, as the bare server.
    pub(crate) fn bare() -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut process = dying_with_us(program.as_os_str())
            .arg("--bare")
            .stdout(Stdio::piped())
            .spawn()
            .context("the bare server")?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("the bare server has no standard output")?)
            .read_line(&mut line)?;
        let address = line.trim().parse().context("the bare server printed no address")?;
        Ok(Server { process, address, kind: Kind::Bare })
    }

    /// `secretaria ingest` as it is built for production, its log in a file.
    pub(crate) fn real(settings: &Settings) -> anyhow::Result<Self> {
        Self::ingest(env!("CARGO_BIN_EXE_secretaria").as_ref(), settings, settings.http.listen)
    }

    /// `secretaria ingest` of another build, on the next port.
    pub(crate) fn other_build(program: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let mut listen = settings.http.listen;
        listen.set_port(listen.port() + 1);
        Self::ingest(program.as_os_str(), settings, listen)
    }

    fn ingest(program: &OsStr, settings: &Settings, listen: SocketAddr) -> anyhow::Result<Self> {
        let path = PathBuf::from(format!("{}/bench-ingest-{}.log", env!("CARGO_TARGET_TMPDIR"), listen.port()));
        let process = dying_with_us(program)
            .arg("ingest")
            .env("SECRETARIA__HTTP__LISTEN", listen.to_string())
            .stderr(File::create(&path)?)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let says_everything = settings.telemetry.log == telemetry::Config::default().log;
        Ok(Server { process, address: listen, kind: Kind::Real { log: path, says_everything } })
    }

    /// Sends webhooks one by one until one is accepted: then the companies are known and the broker answers.
    pub(crate) fn until_it_accepts(&self, mut next: impl FnMut() -> Hooks) -> anyhow::Result<()> {
        let deadline = clock::instant() + TIMEOUT;
        loop {
            let hook = next();
            let response = post(self.address, hook.get(0).unwrap_or_default());
            if response.as_ref().is_ok_and(|it| it.starts_with("HTTP/1.1 202 ")) {
                return Ok(());
            }
            if clock::instant() > deadline {
                bail!("the server accepts nothing: {response:?}");
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU it has used so far, in user and kernel.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = self.proc("stat")?;
        // The second field is the program's name in parentheses, and may hold anything.
        let fields = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?.1;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(TICK * ticks)
    }

    /// The most memory it ever had.
    pub(crate) fn peak_memory_mb(&self) -> anyhow::Result<f64> {
        let status = self.proc("status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        Ok(peak.context("/proc/PID/status has no VmHWM")?.parse::<f64>()? / 1_024.0)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.process.id());
        std::fs::read_to_string(&path).with_context(|| format!("{path}: the server has ended"))
    }

    /// Asks the real server to end, as an operator would, and returns what it wrote.
    pub(crate) fn stop(mut self) -> anyhow::Result<Log> {
        let asked = Command::new("kill").args(["-s", "TERM", &self.process.id().to_string()]).status()?;
        ensure!(asked.success(), "the server could not be asked to end");
        let deadline = clock::instant() + TIMEOUT;
        let ended = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            ensure!(clock::instant() < deadline, "the server does not end");
            thread::sleep(Duration::from_millis(50));
        };
        ensure!(ended.success(), "the server ended with {ended}");
        match &self.kind {
            Kind::Real { log, says_everything } => Ok(Log { path: log.clone(), says_everything: *says_everything }),
            Kind::Bare => bail!("the bare server writes no log"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Log {
    /// Checks that no line about an accepted webhook was lost, and deletes the file.
    pub(crate) fn must_name_every_hook(self, accepted: usize) -> anyhow::Result<()> {
        if self.says_everything {
            let mut lines = 0;
            for line in BufReader::new(File::open(&self.path)?).split(b'\n') {
                // The other build may be of a release that wrote "hook accepted".
                lines += usize::from(line?.windows(14).any(|it| it == br#"hook accepted""#));
            }
            ensure!(lines == accepted, "{accepted} webhooks were accepted and the log has {lines} lines about them");
            println!("the log has a line for each of them");
        }
        Ok(std::fs::remove_file(&self.path)?)
    }
}

/// A command that is killed with the thread that starts it, even if that is killed itself.
fn dying_with_us(program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// One request on a connection of its own.
fn post(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let mut answer = [0; 1_024];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
