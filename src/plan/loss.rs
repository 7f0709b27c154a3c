//! The data that a plan would lose, apart from what it changes: nobody should have to find that in a long list.

use super::observed::Observed;
use super::task::{Deed, How, Loss, Lost};
use std::collections::BTreeMap;

/// What is lost when containers get new roots or are removed. Volumes stay, and nobody expects a job to keep anything.
pub fn losses(observed: &Observed, deeds: &BTreeMap<String, Deed>) -> Vec<Loss> {
    let mut found = Vec::new();
    for (name, deed) in deeds {
        let Some(record) = observed.record.containers.get(name) else { continue };
        if record.job.is_some() {
            continue;
        }
        let when = match deed {
            Deed::Start(How::Fresh) => "it is replaced",
            Deed::Start(How::FreshIfImageChanges) => "it is replaced if its image changes",
            Deed::End => "it is removed",
            Deed::Start(How::Again) | Deed::Adjust => continue,
        };
        if let Some(drift) = observed.drift.get(name) {
            let files = if drift.files == 1 { "1 file".to_owned() } else { format!("{} files", drift.files) };
            let text = format!("{files} that `watch` has synced into it, and that its image does not have ({when})");
            found.push(Loss { what: Lost::Drift, of: name.clone(), text });
        }
        if observed.written.contains(name) {
            let text = format!("the files that it wrote outside of its volumes ({when})");
            found.push(Loss { what: Lost::Written, of: name.clone(), text });
        }
    }
    found
}
