//! A file that is there as a whole or not at all: it is written beside its place, and put there when it is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;

pub(super) struct WholeFile {
    place: PathBuf,
    partial: PathBuf,
}

impl WholeFile {
    /// Makes the folder if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(super) fn begin(place: &Path) -> anyhow::Result<Self> {
        let mut partial = OsString::from(place);
        partial.push(".partial");
        if let Some(folder) = place.parent().filter(|it| !it.as_os_str().is_empty()) {
            fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        Ok(WholeFile { place: place.to_owned(), partial: partial.into() })
    }

    /// The file to write to, empty.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn file(&self) -> anyhow::Result<File> {
        File::create(&self.partial).with_context(|| format!("{} cannot be written", self.partial.display()))
    }

    /// Replaces what is in its place.
    ///
    /// # Errors
    /// If the file cannot be made to last, or not be moved.
    pub(super) fn put_in_place(self) -> anyhow::Result<()> {
        File::open(&self.partial)?.sync_all()?;
        fs::rename(&self.partial, &self.place).with_context(|| format!("{} cannot be written", self.place.display()))
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // After a rename there is none.
        let _ = fs::remove_file(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_not_completed_leaves_what_was_there() {
        let folder = std::env::temp_dir().join(format!("secretaria-whole-{}", std::process::id()));
        let place = folder.join("rows.csv");
        let whole = WholeFile::begin(&place).unwrap();
        whole.file().unwrap().write_all(b"first").unwrap();
        whole.put_in_place().unwrap();
        let half = WholeFile::begin(&place).unwrap();
        half.file().unwrap().write_all(b"sec").unwrap();
        drop(half);
        assert_eq!(fs::read(&place).unwrap(), b"first");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(folder).unwrap();
    }
}
