//! The rules of style that a test can check. No server, no build: every tracked file is read, each test is a claim.
//!
//! A finding is one line, `path:line what is wrong`; all of a claim's findings are shown at once.

mod crates;
mod documents;
mod identifiers;
mod migrations;
mod privacy;
mod processors;
mod releases;
mod sources;
mod tables;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// A file that is tracked, or would be after the next `git add`.
struct File {
    /// From the top of the repository.
    path: String,
    /// Lossy: no claim is about bytes that are no text.
    text: String,
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let listed = run(Command::new("git").args(["ls-files", "-co", "--exclude-standard", "-z"]));
    let mut paths: Vec<String> = listed.split('\0').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    // A tracked file that was just deleted is still listed.
    let read = |path: String| {
        let bytes = std::fs::read(root().join(&path)).ok()?;
        Some(File { path, text: String::from_utf8_lossy(&bytes).into_owned() })
    };
    paths.into_iter().filter_map(read).collect()
});

/// This folder names what it forbids, so its rules do not apply to itself.
const RULES: &str = "tests/it/tidy/";

impl File {
    fn ends_with(&self, suffix: &str) -> bool {
        self.path.ends_with(suffix)
    }

    /// Shell by its name or by its first line.
    fn is_shell(&self) -> bool {
        let first = self.text.lines().next().unwrap_or_default();
        self.ends_with(".sh") || first.starts_with("#!") && first.ends_with("sh")
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn files() -> impl Iterator<Item = &'static File> {
    FILES.iter()
}

/// Every Rust file but the rules themselves.
fn rust() -> impl Iterator<Item = &'static File> {
    files().filter(|it| it.ends_with(".rs") && !it.path.starts_with(RULES))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary under test, without the caller's settings.
fn secretaria() -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_secretaria")));
    command.env_clear();
    command
}

/// What a program prints; it must succeed.
fn run(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with every finding.
#[track_caller]
fn nothing_in(findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The words of a line: letters, digits and underscores.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').filter(|it| !it.is_empty())
}
