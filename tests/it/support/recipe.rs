//! Recipes in documents, run as they are, in the languages they are written in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A language that documents have recipes in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Language {
    Shell,
    Python,
    Node,
}

use Language::{Node, Python, Shell};

impl Language {
    /// Those whose programs are on this machine. Only Node may be missing where nothing is to be left out.
    pub(crate) fn here() -> impl Iterator<Item = Language> {
        [Shell, Python, Node].into_iter().filter(|it| it.is_here())
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Shell => &["bash", "openssl", "curl"],
            Python => &["python3"],
            Node => &["node"],
        }
    }

    fn is_here(self) -> bool {
        let missing = self.programs().iter().find(|it| !answers(it));
        if let Some(program) = missing {
            let nothing_left_out = testkit::variable("SECRETARIA_TEST").as_deref() == Some("all");
            assert!(self == Node || !nothing_left_out, "SECRETARIA_TEST=all needs {program}");
            eprintln!("left out: needs {program}");
        }
        missing.is_none()
    }

    /// The recipe in a document.
    pub(crate) fn recipe(self, document: &str) -> &str {
        let fence = match self {
            Shell => "```bash recipe\n",
            Python => "```python recipe\n",
            Node => "```js recipe\n",
        };
        let (_, after) = document.split_once(fence).unwrap();
        after.split_once("```").unwrap().0
    }

    /// Runs a script in a folder of its own.
    pub(crate) fn command(self, folder: &Path, name: &str, script: &str) -> Command {
        let (program, ending) = match self {
            Shell => ("bash", "sh"),
            Python => ("python3", "py"),
            Node => ("node", "mjs"),
        };
        let file = format!("{name}.{ending}");
        fs::write(folder.join(&file), script).unwrap();
        let mut command = Command::new(program);
        // A proxy of the caller is not for a listener on this machine.
        command.current_dir(folder).arg(file).env("no_proxy", "*").env("NO_PROXY", "*");
        command
    }

    /// A folder for the recipes of one document in this language.
    pub(crate) fn folder(self, document: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{document}-{self:?}"));
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

fn answers(program: &str) -> bool {
    let version = if program == "openssl" { "version" } else { "--version" };
    let tried = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|it| it.success())
}

/// What a program prints when it is given something to read; it must succeed.
pub(crate) fn output_of(mut command: Command, input: &[u8]) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
