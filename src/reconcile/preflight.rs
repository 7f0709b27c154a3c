//! Checks that this machine has what is needed before anything is changed: limits that it can apply, devices, mounts,
//! capabilities and filters.

use crate::instance::Observation;
use crate::model::{Context, Error, Result, capability};
use crate::plan::Desired;
use crate::project::{Locations, MountSource, NodePath};
use crate::runtime::{self, Host, SecuritySpec, seccomp};
use crate::store::Home;
use crate::sys;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Checks one container, and adds what this machine lacks to the errors. Returns warnings about limits that will have less
/// effect than they seem to.
pub fn check(one: &Desired, places: &Locations, folder: &Path, host: &Host, errors: &mut Vec<Error>) -> Vec<String> {
    let error = |node: &str, why: String| {
        let place = places.of(&NodePath::container(&one.container).aspect(node));
        Error::new(format!("container {}: {why}", one.container)).at(place)
    };
    // A replacement must be complete before the container that it replaces is stopped.
    if one.image.is_none() {
        let advice = "its files may have changed while it was built: run the command again";
        errors.push(error("image", format!("its image {} is not built", one.image_name)).hint(advice));
    }
    if let Some(runtime::Refusal { node, why }) = runtime::refusal(host, &one.spec.limits) {
        errors.push(error(&format!("limits.{node}"), why));
    }
    let lacking = capability::mask(one.spec.security.add.iter().map(String::as_str)) & !sys::permitted_capabilities();
    if lacking != 0 {
        let names = capability::names(lacking).join(", ");
        let advice = "stead can only grant what it has itself: run it with this capability, or remove it";
        errors.push(error("security.capability", format!("this process lacks {names}")).hint(advice));
    }
    for (device, _) in &one.spec.devices {
        let path = Path::new(device);
        match std::fs::metadata(path).map(|found| found.file_type()) {
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => {}
            Ok(_) => errors.push(error("device", format!("{device} is not a device"))),
            Err(why) => errors.push(error("device", format!("no device {device}: {why}"))),
        }
    }
    for mount in &one.spec.mounts {
        let MountSource::Bind(path) = &mount.source else { continue };
        let source = folder.join(path);
        if !mount.create && !source.exists() {
            let why = format!("there is no {} to mount at {}", source.display(), mount.to);
            errors.push(error(&format!("mount.{}", mount.to), why).hint("make it, or write create=#true"));
        }
    }
    runtime::caveats(host, &one.spec.limits).into_iter().map(|text| format!("container {}: {text}", one.container)).collect()
}

/// What a container's processes may do, including its compiled filter.
///
/// # Errors
/// Fails when a profile is not valid or the compiled filter cannot be stored.
pub fn security(one: &Desired, observation: &Observation, home: &Home) -> Result<SecuritySpec> {
    let wish = &one.spec.security;
    let capabilities = if wish.privileged { capability::ALL } else { capability::with(&wish.add, &wish.drop) };
    let unconfined = wish.seccomp.as_deref() == Some("unconfined") || wish.privileged && wish.seccomp.is_none();
    let filter = if unconfined {
        None
    } else {
        let text = wish.seccomp.as_ref().and_then(|file| observation.profiles.get(file)).map(String::as_str);
        Some(seccomp::keep(&home.run, text, capabilities).context(|| "cannot make the system call filter".into())?)
    };
    Ok(SecuritySpec {
        capabilities,
        filter,
        no_new_privileges: wish.no_new_privileges,
        privileged: wish.privileged,
        read_only: wish.read_only,
        ulimits: one.spec.limits.ulimits.clone(),
        oom_score: one.spec.limits.oom_score,
    })
}
