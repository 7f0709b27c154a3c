//! Describes a container as an OCI runtime specification, which shows what the container may do.

use crate::build::View;
use crate::instance::Instance;
use crate::model::{Context, Error, Result};
use crate::runtime::identity_in;

/// The specification that a container was started from, with the numbers of its user from the container's own files, and
/// with its system call filter written out.
///
/// # Errors
/// Fails when the container was never started, when a file cannot be read, and when the container does not know the user.
pub fn specification(instance: &Instance, name: &str) -> Result<serde_json::Value> {
    let spec = instance.container(name).spec()?;
    let blueprint = spec.ok_or_else(|| Error::new(format!("container {name} was never started")))?.blueprint;
    let mut value = blueprint.specification();
    if let (Some(user), Some(layers)) = (&blueprint.beyond.user, &blueprint.beyond.layers) {
        // Files that the container wrote itself count, too.
        let view = View::new(layers.trees.iter().rev().chain([&layers.upper]).cloned().collect());
        let database = |path: &str| view.user_database(path).context(|| format!("cannot read {path} of {name}"));
        let found = identity_in(&database("/etc/passwd")?, &database("/etc/group")?, &user.user, &user.groups);
        let found = found.context(|| format!("container {name}"))?;
        value["process"]["user"] = serde_json::json!({ "uid": found.uid, "gid": found.gid, "additionalGids": found.groups });
    }
    if let Some(filter) = &blueprint.beyond.filter {
        let path = filter.with_extension("json");
        let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        value["linux"]["seccomp"] = serde_json::from_str(&text).context(|| format!("{} is damaged", path.display()))?;
    }
    Ok(value)
}
