//! The keys of seeds.
//!
//! A key is a digest of everything that a seed's job is made from. In its own directory, that is enough. Another directory of the
//! project may use the seed only if whatever else could have had a say in it is the same, too: what the job is trusted with, and
//! the containers that it could reach.

use super::desired::Desired;
use super::observed::{IMAGE_VOLUME, Observed};
use super::seed::{DIGITS, Key, Seed};
use super::trust::widenings;
use crate::model::{Digest, Name};
use crate::project::{Locations, MountSource, Project, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Adds what jobs are to fill to their desired states.
pub fn add_seeds(project: &Project, places: &Locations, observed: &Observed, all: &mut BTreeMap<String, Desired>) {
    for (volume, declared) in &project.volumes {
        let Some(job) = &declared.seed else { continue };
        let Some(full) = ReplicaId::all(job, 1).map(|replica| replica.to_string()).next() else { continue };
        let Some(one) = all.get(&full) else { continue };
        let key = one
            .image
            .is_some()
            .then(|| Key { own: own(one, volume, observed), around: around(one, volume, (project, places, observed), all) });
        if let Some(one) = all.get_mut(&full) {
            one.seed = Some(Seed { volume: volume.clone(), key });
        }
    }
}

/// The aspects that can make the result of a command another one, wherever it runs.
fn aspects<'a>(one: &'a Desired, but: Option<&Name>) -> BTreeMap<&'a String, &'a String> {
    const NAMES: [&str; 9] = ["image", "cmd", "entrypoint", "workdir", "user", "group-add", "inputs", "tmpfs", "security"];
    const KINDS: [&str; 4] = ["env.", "env-file.", "mount.", IMAGE_VOLUME];
    let is_other_volume =
        |key: &str| key.strip_prefix("volume.").is_some_and(|volume| but.is_none_or(|but| but.as_str() != volume));
    let counts = |key: &str| NAMES.contains(&key) || KINDS.iter().any(|kind| key.starts_with(kind)) || is_other_volume(key);
    one.aspects.iter().filter(|(key, _)| counts(key)).collect()
}

/// The contents of the secrets and configs of a container. Their aspects are bound to an instance.
fn contents<'o>(one: &Desired, observed: &'o Observed) -> Vec<(String, Option<&'o Digest>)> {
    let used = one.spec.secrets.iter().chain(&one.spec.configs);
    used.map(|used| (used.to.clone(), observed.contents.get(&used.name))).collect()
}

fn own(one: &Desired, volume: &Name, observed: &Observed) -> String {
    Digest::of_json(&("seed 1", volume, aspects(one, Some(volume)), contents(one, observed))).short(DIGITS)
}

/// What else could have had a say; `None` if that is bound to this directory.
fn around(
    one: &Desired,
    volume: &Name,
    (project, places, observed): (&Project, &Locations, &Observed),
    all: &BTreeMap<String, Desired>,
) -> Option<String> {
    let job = one.spec.job.as_ref()?;
    let is_known = |mount: &crate::project::Mount| match &mount.source {
        MountSource::Volume(other) => other == volume,
        MountSource::Image(_) => true,
        MountSource::Bind(path) => {
            let lead = observed.lead(path);
            let path = tidy(path);
            lead.plain && !lead.outside && job.inputs.iter().any(|input| path.starts_with(tidy(input)))
        }
    };
    let is_bound = !one.spec.depends_on.is_empty()
        || !one.spec.mounts.iter().all(is_known)
        || one.networks.iter().any(|attached| attached.record.external);
    if is_bound {
        return None;
    }
    // Those that stand in are like the others, and which there could be depends on what happened here.
    let mut neighbours = Vec::new();
    let near = |other: &Desired| other.networks.iter().any(|there| one.networks.iter().any(|here| here.network == there.network));
    for other in all.values().filter(|other| other.name != one.name && !other.stands_in && near(other)) {
        // What it is made from is not known yet.
        other.image.as_ref()?;
        neighbours.push((&other.name, aspects(other, None), contents(other, observed)));
    }
    let marks = widenings(project, places, observed, one);
    let marks: BTreeSet<Digest> = marks.iter().filter(|mark| mark.asks()).map(super::Mark::id).collect();
    Some(Digest::of_json(&("around 1", &project.name, marks, neighbours)).short(DIGITS))
}

/// A path without `.`; that of the whole project is empty.
fn tidy(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| *part != Component::CurDir).collect()
}
