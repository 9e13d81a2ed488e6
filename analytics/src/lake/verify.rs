//! Whether the store holds what the manifest says: missing and damaged files, and orphans.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::manifest::ManifestFile;
use super::store::Stored;
use super::{Error, Lake};

/// How old an unnamed file must be before it counts as an orphan: the transaction that names it may still be open.
pub const ORPHAN_AGE: SignedDuration = SignedDuration::from_hours(1);

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Files that are as the manifest says.
    pub intact: usize,
    /// One line each.
    pub problems: Vec<String>,
    /// Files that the manifest does not name, and that are old enough.
    pub orphans: Vec<Stored>,
    /// Those that are younger.
    pub pending: usize,
}

/// Compares every file with the manifest; the manifest must have been read before, or younger files look like orphans.
/// Calls `progress` after each file.
///
/// # Errors
/// If the store is away. What is wrong with a file is a finding.
pub async fn verify(
    lake: &Lake,
    manifest: &[ManifestFile],
    now: Timestamp,
    mut progress: impl FnMut(usize),
) -> Result<Findings, Error> {
    let mut findings = Findings::default();
    for (done, file) in manifest.iter().enumerate() {
        match lake.read(&file.path, &file.sha256).await {
            Ok(_) => findings.intact += 1,
            // It may have been deleted already.
            Err(Error::Missing { .. }) if file.is_replaced => {}
            Err(problem @ (Error::Missing { .. } | Error::Damaged { .. })) => {
                findings.problems.push(problem.to_string())
            }
            Err(problem) => return Err(problem),
        }
        progress(done + 1);
    }
    let named: HashSet<&str> = manifest.iter().map(|it| it.path.as_str()).collect();
    for stored in lake.list().await?.into_iter().filter(|it| !named.contains(it.path.as_str())) {
        match now.duration_since(stored.modified_at) >= ORPHAN_AGE {
            true => findings.orphans.push(stored),
            false => findings.pending += 1,
        }
    }
    Ok(findings)
}
