//! Processes: started, ended with us however we end, and what they use of the machine.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use platform::clock;
use tokio_postgres::Client;

/// How long a process may take to end.
const TIMEOUT: Duration = Duration::from_secs(40);
/// What a tick of `/proc/PID/stat` is; Linux shows the same on every machine.
const TICK: Duration = Duration::from_millis(10);

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// A command that is killed with the thread that starts it, even if that is killed itself.
    pub(crate) fn command(program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).stdin(Stdio::null());
        command
    }

    /// Starts it; what it writes goes to a file.
    pub(crate) fn start(mut command: Command, name: &str) -> anyhow::Result<Self> {
        let log = PathBuf::from(format!("{}/bench-engine-{name}.log", env!("CARGO_TARGET_TMPDIR")));
        let file = File::create(&log)?;
        let child = command.stdout(file.try_clone()?).stderr(file).spawn().with_context(|| format!("{command:?}"))?;
        Ok(Process { child, log })
    }

    /// Fails if it has ended.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("a process ended with {status}: {}", self.log.display()),
        }
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it ever had.
    pub(crate) fn peak_memory_mb(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        Ok(peak.context("/proc/PID/status has no VmHWM")?.parse::<f64>()? / 1_024.0)
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = clock::instant() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(clock::instant() < deadline, "a process does not end: {}", self.log.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks it to end, as an operator would.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").args(["-s", "TERM", &self.pid().to_string()]).status()?;
        ensure!(asked.success(), "a process could not be asked to end");
        let status = self.ended(TIMEOUT).await?;
        // A JVM that ends after SIGTERM has this status.
        ensure!(status.success() || status.code() == Some(143), "ended with {status}: {}", self.log.display());
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the machine has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// All cores, used by any process.
    pub(crate) machine: Duration,
    /// The processes that were given.
    pub(crate) engine: Duration,
    /// All processes of the server.
    pub(crate) postgres: Duration,
    pub(crate) kafka: Duration,
    /// This process: the model and the load.
    pub(crate) bench: Duration,
}

impl Cpu {
    pub(crate) fn read(engine: &[u32], servers: &Servers) -> anyhow::Result<Self> {
        Ok(Cpu {
            machine: machine()?,
            engine: engine.iter().map(|pid| Ok(Stat::of(*pid)?.own)).sum::<anyhow::Result<Duration>>()?,
            postgres: servers.postgres_cpu()?,
            kafka: servers.kafka.map_or(Ok(Duration::ZERO), |pid| Ok::<_, anyhow::Error>(Stat::of(pid)?.own))?,
            bench: Stat::of(std::process::id())?.own,
        })
    }

    /// What was used since.
    pub(crate) fn since(self, before: Cpu) -> Cpu {
        Cpu {
            machine: self.machine - before.machine,
            engine: self.engine - before.engine,
            postgres: self.postgres.saturating_sub(before.postgres),
            kafka: self.kafka - before.kafka,
            bench: self.bench - before.bench,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers {
    postmaster: u32,
    kafka: Option<u32>,
}

impl Servers {
    /// Found by a backend's parent.
    pub(crate) async fn find(client: &Client, kafka: Option<u32>) -> anyhow::Result<Self> {
        let backend: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
        let postmaster = Stat::of(u32::try_from(backend)?).context("the server is not on this machine")?.parent;
        Ok(Servers { postmaster, kafka })
    }

    /// The postmaster, all its children, and those that have ended.
    fn postgres_cpu(&self) -> anyhow::Result<Duration> {
        let own = Stat::of(self.postmaster)?;
        let mut sum = own.own + own.ended_children;
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|it| it.parse().ok()) else { continue };
            // One that ends meanwhile is counted by its parent from then on.
            sum += Stat::of(pid).ok().filter(|it| it.parent == self.postmaster).map_or(Duration::ZERO, |it| it.own);
        }
        Ok(sum)
    }
}

struct Stat {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

impl Stat {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        // The second field is the program's name in parentheses, and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?.1.split(' ').collect();
        let ticks = |places: [usize; 2]| -> anyhow::Result<Duration> {
            let each = places.map(|it| fields.get(it).map_or(Ok(0), |it| it.parse::<u32>()));
            Ok(TICK * each.into_iter().sum::<Result<u32, _>>()?)
        };
        Ok(Stat {
            parent: fields.get(1).context("/proc/PID/stat is short")?.parse()?,
            own: ticks([11, 12])?,
            ended_children: ticks([13, 14])?,
        })
    }
}

/// Time that all cores together were not idle, without what was stolen from us.
fn machine() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u32> = all.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq
    Ok(TICK * [0, 1, 2, 5, 6].iter().filter_map(|it| ticks.get(*it)).sum::<u32>())
}
