//! The SQL files of this repository.

use std::path::{Path, PathBuf};

/// A folder below `sql/`.
pub fn sql_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql").join(name)
}

/// The folder's files that end in `.sql`, those of its folders included, by path.
pub fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    let files = paths.into_iter().flat_map(|it| if it.is_dir() { files_of(&it) } else { vec![it] });
    files.filter(|it| it.extension().is_some_and(|ending| ending == "sql")).collect()
}
