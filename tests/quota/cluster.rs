//! A Postgres of a test's own, for what must not happen to the server that all tests share: a backend that is killed
//! takes every other one down with it.
//!
//! Made of the shared server's programs, under the account that runs it, in a temporary folder, on a socket only. A
//! shell holds it: when the test lets go of the shell, or dies, the server stops and the folder goes.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{Database, unique};

/// Runs the server until the shell's input is closed.
const HOLD: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c autovacuum=off >"$2/log" 2>&1 &
read -r _
kill -QUIT $!
wait $!
rm -rf "$2"
"#;

pub(crate) struct Cluster {
    shell: Child,
    folder: PathBuf,
}

impl Cluster {
    /// A running server with one database, migrated; `None`, said aloud, when this run has no Postgres.
    pub(crate) async fn start() -> Option<(Database, Cluster)> {
        let shared = Database::create().await?;
        let client = shared.connect().await;
        let setting = async |query: &str| client.query_one(query, &[]).await.unwrap().get::<_, String>(0);
        let programs = setting("select setting from pg_config where name = 'BINDIR'").await;
        let account = std::fs::metadata(setting("show data_directory").await).map(|it| (it.uid(), it.gid()));
        let folder = std::env::temp_dir().join(unique("secretaria"));
        std::fs::create_dir(&folder).unwrap();
        // Only root may change the account, and Postgres refuses to run as root.
        let account = account.ok().filter(|_| std::fs::metadata(&folder).unwrap().uid() == 0);
        let command = |program: &str| {
            let mut command = Command::new(program);
            command.current_dir(&folder);
            if let Some((user, group)) = account {
                command.uid(user).gid(group);
            }
            command
        };
        if let Some((user, group)) = account {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let made = command(&format!("{programs}/initdb"))
            .args(["-D", "data", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8", "--auth", "trust", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let shell =
            command("sh").args(["-c", HOLD, "hold", &programs]).arg(&folder).stdin(Stdio::piped()).spawn().unwrap();
        let host = folder.to_str().unwrap().replace('/', "%2F");
        let cluster = Cluster { shell, folder };
        Some((Database::at(format!("postgres://postgres@{host}/postgres")).await, cluster))
    }

    /// SIGKILL to one process of this server.
    pub(crate) fn kill(&self, process: i32) {
        let folder = std::fs::read_link(format!("/proc/{process}/cwd"));
        // A number that another process has by now is left alone.
        if folder.is_ok_and(|it| it == self.folder.join("data")) {
            Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
