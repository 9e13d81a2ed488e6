//! The recipe of docs/ADDING_A_PROCESSOR.md, followed exactly: a patch adds a processor to this tree, and it runs.
//!
//! The two crates that the patch changes are built beside this build, under a version and a name of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use api::companies::Auth;

use crate::crash::{BROKER, Process, free_address, on_real_kafka};

const PATCH: &str = include_str!("answer_times.patch");
const FOLDER: &str = "processors/src/answer_times/";

/// The limits that the recipe keeps to.
const MAX_LINES: usize = 150;
const MAX_FILES: usize = 8;

#[test]
fn a_processor_is_a_folder_and_few_lines_elsewhere() {
    let mut file = "";
    let (mut inside, mut outside, mut files) = (0, 0, 0);
    for line in PATCH.lines() {
        if let Some(path) = line.strip_prefix("+++ b/") {
            file = path;
            files += usize::from(!file.starts_with(FOLDER));
        } else if line.starts_with('+') {
            if file.starts_with(FOLDER) { inside += 1 } else { outside += 1 }
        }
    }
    println!("{inside} lines in its folder, {outside} in {files} other files");
    assert!((50..=MAX_LINES).contains(&inside), "{inside} lines in its folder");
    assert!((1..=MAX_FILES).contains(&files), "{files} other files");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_gives_a_processor_that_runs() {
    let _alone = BROKER.lock().await;
    let Some(mut app) = on_real_kafka(|_| {}).await else { return };
    let program = tokio::task::spawn_blocking(build).await.unwrap();
    app.settings.http.listen = free_address();
    let migrated = Process::command(&app, &program).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let clinic = app.add_company("clinica.test", Auth::Token("bridge-token".into())).await;
    let process = Process::begin_of(&app, &program);
    process.ready(&app).await;
    app.known(&clinic).await;
    app.accept(&clinic.text("5511999990001", "A1", "qual o preço?")).await;
    app.accept(&clinic.text("5511999990002", "B1", "oi")).await;
    app.comes_to(
        "select string_agg(grade, ' ') from answer_times join turns using (company_id, turn_id)",
        "quick quick",
    )
    .await;
    app.settles().await;
    // Two turns, and the two deliveries of their answers.
    let outcomes = "select string_agg(state, ' ') from event_outcomes where processor = 'answer_times'";
    app.comes_to(outcomes, "done done done done").await;
    app.comes_to("select count(*)::text from jobs", "0").await;
    process.kill().await;
}

/// A copy of this tree with the patch, built; its program.
fn build() -> PathBuf {
    let copy = std::env::temp_dir().join(format!("secretaria-added-{}", std::process::id()));
    let _ = fs::remove_dir_all(&copy);
    copy_tracked(&copy);
    let mut apply = Command::new("git");
    // Without a repository, git takes paths from the current folder.
    apply
        .args(["apply", "--whitespace=error", "-"])
        .current_dir(&copy)
        .env("GIT_CEILING_DIRECTORIES", std::env::temp_dir());
    crate::support::recipe::output_of(apply, PATCH.as_bytes());
    name_apart(&copy);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // All packages, so that crates have the features that they are built with already.
    cargo.args(["build", "--workspace", "--bin", "secretaria-added", "--offline", "--quiet"]);
    cargo.current_dir(&copy).env("CARGO_TARGET_DIR", target);
    crate::support::recipe::output_of(cargo, b"");
    fs::remove_dir_all(&copy).unwrap();
    target.join("debug/secretaria-added")
}

/// Every tracked file with its time, so that what the patch does not change counts as built.
fn copy_tracked(copy: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git").args(["ls-files", "-co", "--exclude-standard", "-z"]).current_dir(root).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    for path in listed.split('\0').filter(|it| root.join(it).is_file()) {
        let (from, to) = (root.join(path), copy.join(path));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&from, &to).unwrap();
        let changed = fs::metadata(&from).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&to).unwrap().set_modified(changed).unwrap();
    }
}

/// A version of its own for the crates that the patch touches, and for the program another name.
fn name_apart(copy: &Path) {
    let edit = |path: &str, changes: &[(&str, &str)]| {
        let path = copy.join(path);
        let text = changes.iter().fold(fs::read_to_string(&path).unwrap(), |text, (from, to)| {
            assert!(text.contains(from), "{} no longer says {from}", path.display());
            text.replacen(from, to, 1)
        });
        fs::write(path, text).unwrap();
    };
    let version = ("version.workspace = true", "version = \"0.3.0-added\"");
    edit("processors/Cargo.toml", &[version]);
    let name = ("name = \"secretaria\"\npath", "name = \"secretaria-added\"\npath");
    let default = ("default-run = \"secretaria\"", "default-run = \"secretaria-added\"");
    edit("Cargo.toml", &[version, name, default]);
    let locked = |name: &str| format!("name = \"{name}\"\nversion = \"0.3.0");
    let (processors, secretaria) = (locked("processors"), locked("secretaria"));
    let added = [format!("{processors}-added"), format!("{secretaria}-added")];
    edit("Cargo.lock", &[(&processors, &added[0]), (&secretaria, &added[1])]);
}
